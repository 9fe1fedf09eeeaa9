package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

// skew is how much longer than it says a challenge is accepted.
const skew = 5 * time.Second

var quotes = []quoteMessage{
	{"quote", "The unexamined life is not worth living.", "Socrates", "collection"},
	{"quote", "Well begun is half done.", "Aristotle", "collection"},
	{"quote", "No man ever steps in the same river twice.", "Heraclitus", "collection"},
}

// A gate makes challenges and redeems their solutions. It keeps nothing of a challenge until it is redeemed.
type gate struct {
	keys        *keyRing
	spent       *spentStore
	rounds      int
	roundEffort uint32
	ttl         time.Duration
}

func (g *gate) issue(resource string, binding []byte) (*challengeMessage, error) {
	if resource != "quote" {
		return nil, errUnknownResource
	}
	text := g.keys.seal(token{
		rounds:      g.rounds,
		roundEffort: g.roundEffort,
		expiry:      time.Now().Add(g.ttl),
		id:          newRandomID(),
		resource:    resource,
	}, binding)
	return &challengeMessage{
		Type:        "challenge",
		Challenge:   text,
		Algorithm:   "sha256",
		Rounds:      g.rounds,
		RoundEffort: g.roundEffort,
		Target:      fmt.Sprintf("%016x", targetOf(g.roundEffort)),
		ExpiresIn:   g.ttl.Seconds(),
	}, nil
}

// redeem checks a solution, cheapest first, spends its token, and only then hands out the resource.
func (g *gate) redeem(text string, nonces []uint64, binding []byte) (*quoteMessage, error) {
	t, err := g.keys.open(text, binding)
	if err != nil {
		return nil, err
	}
	if time.Now().After(t.expiry.Add(skew)) {
		return nil, errExpired
	}
	if len(nonces) != t.rounds || !solved(text, nonces, targetOf(t.roundEffort)) {
		return nil, errTooLittleWork
	}
	if t.resource != "quote" {
		return nil, errUnknownResource
	}
	quote := &quotes[rand.IntN(len(quotes))]
	if !g.spent.spend(t) {
		return nil, errReplayed
	}
	return quote, nil
}

func targetOf(roundEffort uint32) uint64 {
	return math.MaxUint64 / uint64(roundEffort)
}

// solved says whether every round meets the target.
func solved(text string, nonces []uint64, target uint64) bool {
	prefix := append([]byte(text), ':')
	for round, nonce := range nonces {
		guess := strconv.AppendInt(prefix, int64(round), 10)
		guess = append(guess, ':')
		guess = strconv.AppendUint(guess, nonce, 10)
		digest := sha256.Sum256(guess)
		if binary.BigEndian.Uint64(digest[:8]) > target {
			return false
		}
	}
	return true
}
