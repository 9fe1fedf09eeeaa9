package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"
)

// The protocol's own vectors.
type vectors struct {
	Key   string
	KeyID string `json:"key_id"`
	Cases []struct {
		Name          string
		ClientAddress string `json:"client_address"`
		Rounds        int
		RoundEffort   uint32 `json:"round_effort"`
		Target        string
		Resource      string
		ExpiryMS      int64  `json:"expiry_ms"`
		RandomID      string `json:"random_id"`
		Binding       string
		Token         string
		FirstNonces   []uint64 `json:"first_nonces"`
	}
}

func readVectors(t *testing.T) (vectors, *keyRing) {
	t.Helper()
	content, err := os.ReadFile("../../../wow/test/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var read vectors
	if err := json.Unmarshal(content, &read); err != nil {
		t.Fatal(err)
	}
	return read, newKeyRing(unhex(t, read.Key))
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	decoded, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}

func TestTokensAreThoseOfTheProtocol(t *testing.T) {
	read, keys := readVectors(t)
	if got := hex.EncodeToString(keys.signing[:]); got != read.KeyID {
		t.Errorf("key id %s, not %s", got, read.KeyID)
	}
	for _, each := range read.Cases {
		binding := []byte{0}
		if each.ClientAddress != "" {
			binding = bind(netip.MustParseAddr(each.ClientAddress))
		}
		if got := hex.EncodeToString(binding); got != each.Binding {
			t.Errorf("%s: bound to %s, not %s", each.Name, got, each.Binding)
		}
		made := token{
			rounds:      each.Rounds,
			roundEffort: each.RoundEffort,
			expiry:      time.UnixMilli(each.ExpiryMS),
			id:          randomID(unhex(t, each.RandomID)),
			resource:    each.Resource,
		}
		if got := keys.seal(made, binding); got != each.Token {
			t.Errorf("%s: sealed as %s", each.Name, got)
		}
		if opened, err := keys.open(each.Token, binding); err != nil || opened != made {
			t.Errorf("%s: opened as %v, %v", each.Name, opened, err)
		}
	}
}

func TestWorkIsThatOfTheProtocol(t *testing.T) {
	read, _ := readVectors(t)
	for _, each := range read.Cases {
		target := targetOf(each.RoundEffort)
		if got := fmt.Sprintf("%016x", target); got != each.Target {
			t.Errorf("%s: target %s, not %s", each.Name, got, each.Target)
		}
		if !solved(each.Token, each.FirstNonces, target) {
			t.Errorf("%s: the first nonces do not solve it", each.Name)
		}
		for round := range each.FirstNonces {
			if each.RoundEffort == 1 {
				continue // Any nonce solves it.
			}
			each.FirstNonces[round]--
			if solved(each.Token, each.FirstNonces, target) {
				t.Errorf("%s: solved without round %d", each.Name, round)
			}
			each.FirstNonces[round]++
		}
	}
}

func TestNoOtherTextOpens(t *testing.T) {
	read, keys := readVectors(t)
	text := read.Cases[1].Token
	binding := unhex(t, read.Cases[1].Binding)
	others := []string{"", text + "=", text + "\n", text[:len(text)-1], text + text}
	for i := range text {
		// One bit of a letter, so that it is another letter of the alphabet or none.
		others = append(others, text[:i]+string(text[i]^1)+text[i+1:])
	}
	for _, other := range others {
		if _, err := keys.open(other, binding); !errors.Is(err, errInvalidChallenge) {
			t.Errorf("%q: %v", other, err)
		}
	}
	if _, err := keys.open(text, []byte{0}); !errors.Is(err, errInvalidChallenge) {
		t.Errorf("opens for another client: %v", err)
	}
	if _, err := newKeyRing([]byte("another")).open(text, binding); !errors.Is(err, errInvalidChallenge) {
		t.Errorf("opens with another key: %v", err)
	}
}
