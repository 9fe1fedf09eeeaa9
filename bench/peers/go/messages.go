package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
)

// A clientMessage is any message of a client's. Which fields it may have depends on its type.
type clientMessage struct {
	Type      string   `json:"type"`
	Resource  *string  `json:"resource"`
	Challenge *string  `json:"challenge"`
	Nonces    []uint64 `json:"nonces"`
}

type challengeMessage struct {
	Type        string  `json:"type"`
	Challenge   string  `json:"challenge"`
	Algorithm   string  `json:"algorithm"`
	Rounds      int     `json:"rounds"`
	RoundEffort uint32  `json:"round_effort"`
	Target      string  `json:"target"`
	ExpiresIn   float64 `json:"expires_in"`
}

type quoteMessage struct {
	Type   string `json:"type"`
	Text   string `json:"text"`
	Author string `json:"author"`
	Source string `json:"source"`
}

type errorMessage struct {
	Type       string  `json:"type"`
	Code       string  `json:"code"`
	Message    string  `json:"message"`
	RetryAfter float64 `json:"retry_after,omitempty"`
}

// A refusal is an error that a client is told of.
type refusal struct {
	code    string
	message string
	closes  bool
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

var (
	errFrameTooLarge    = &refusal{"frame_too_large", "The frame is empty or too long.", true}
	errUnknownResource  = &refusal{"unknown_resource", "There is no such resource.", false}
	errInvalidChallenge = &refusal{"invalid_challenge", "This is no challenge of this server's for you.", true}
	errExpired          = &refusal{"expired", "The challenge's time is over.", false}
	errTooLittleWork    = &refusal{"insufficient_work", "The solution does not solve the challenge.", true}
	errReplayed         = &refusal{"replayed", "The challenge was redeemed before.", true}
	errBusy             = &refusal{"busy", "This connection has carried all it may; open another.", true}
	errTimeout          = &refusal{"timeout", "The next frame did not come in time.", true}
	errInternal         = &refusal{"internal", "Something went wrong on the server.", true}
)

func malformed(format string, args ...any) *refusal {
	return &refusal{"malformed", fmt.Sprintf(format, args...), true}
}

const maxNonce = 1<<53 - 1

var resourceName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// decode reads a client's message strictly: no unknown field, and nothing behind it.
func decode(body []byte) (*clientMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	var message clientMessage
	if err := decoder.Decode(&message); err != nil {
		return nil, malformed("The frame is no message: %v", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, malformed("There is something behind the message.")
	}
	return &message, message.check()
}

func (m *clientMessage) check() error {
	switch m.Type {
	case "request":
		if m.Challenge != nil || m.Nonces != nil {
			return malformed("A request has a resource and no other field.")
		}
		if m.Resource != nil && !resourceName.MatchString(*m.Resource) {
			return malformed("This cannot be the name of a resource.")
		}
	case "solution":
		if m.Resource != nil || m.Challenge == nil || m.Nonces == nil {
			return malformed("A solution has a challenge and nonces, and no other field.")
		}
		for _, nonce := range m.Nonces {
			if nonce > maxNonce {
				return malformed("A nonce is too large.")
			}
		}
	default:
		return malformed("There is no such type of message.")
	}
	return nil
}
