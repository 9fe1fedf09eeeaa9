package main

import (
	"errors"
	"testing"
	"time"
)

var here = []byte{4, 127, 0, 0, 1}

func makeGate(ttl time.Duration) *gate {
	key := make([]byte, 32)
	return &gate{keys: newKeyRing(key), spent: newSpentStore(), rounds: 2, roundEffort: 1, ttl: ttl}
}

func TestAProofIsRedeemedOnce(t *testing.T) {
	gate := makeGate(time.Minute)
	challenge, err := gate.issue("quote", here)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gate.redeem(challenge.Challenge, []uint64{1}, here); !errors.Is(err, errTooLittleWork) {
		t.Errorf("with a nonce too few: %v", err)
	}
	if quote, err := gate.redeem(challenge.Challenge, []uint64{1, 2}, here); err != nil || quote.Text == "" {
		t.Errorf("the first time: %v, %v", quote, err)
	}
	if _, err := gate.redeem(challenge.Challenge, []uint64{1, 2}, here); !errors.Is(err, errReplayed) {
		t.Errorf("the second time: %v", err)
	}
}

func TestAProofIsGoodForItsTime(t *testing.T) {
	gate := makeGate(-skew - time.Second)
	challenge, err := gate.issue("quote", here)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gate.redeem(challenge.Challenge, []uint64{1, 2}, here); !errors.Is(err, errExpired) {
		t.Errorf("after its time: %v", err)
	}
}

func TestWhatIsSpentIsForgottenOnceItIsExpired(t *testing.T) {
	store := newSpentStore()
	now := time.Now()
	if !store.spend(token{expiry: now}) || !store.spend(token{expiry: now.Add(time.Second)}) {
		t.Fatal("not spent the first time")
	}
	store.purge(now.Add(skew))
	if len(store.spent) != 2 {
		t.Errorf("%d are left while they can still be handed in", len(store.spent))
	}
	store.purge(now.Add(skew + time.Second))
	if len(store.spent) != 1 {
		t.Errorf("%d are left", len(store.spent))
	}
}
