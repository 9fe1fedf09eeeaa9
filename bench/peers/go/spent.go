package main

import (
	"context"
	"sync"
	"time"
)

type spentKey struct {
	expiry int64
	id     randomID
}

// A spentStore remembers what was redeemed until it expires.
type spentStore struct {
	mu    sync.Mutex
	spent map[spentKey]struct{}
}

func newSpentStore() *spentStore {
	return &spentStore{spent: make(map[spentKey]struct{})}
}

// spend says whether this is the first time that the token is spent.
func (s *spentStore) spend(t token) bool {
	key := spentKey{t.expiry.UnixMilli(), t.id}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, before := s.spent[key]; before {
		return false
	}
	s.spent[key] = struct{}{}
	return true
}

// purge forgets what has been expired for so long that it is refused for its age.
func (s *spentStore) purge(now time.Time) {
	over := now.Add(-skew).UnixMilli()
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.spent {
		if key.expiry < over {
			delete(s.spent, key)
		}
	}
}

func (s *spentStore) purgeEvery(ctx context.Context, period time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			s.purge(now)
		case <-ctx.Done():
			return
		}
	}
}
