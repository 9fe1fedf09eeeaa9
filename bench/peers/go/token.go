package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net"
	"net/netip"
	"time"
)

const (
	version       = 1
	algorithm     = 1
	headLength    = 36
	tagLength     = sha256.Size
	mostRounds    = 64
	longestName   = 32
	longestToken  = headLength + longestName + tagLength
	keyIDContext  = "wow/key-id/v1\x00"
	signedContext = "wow/challenge/v1\x00"
)

type (
	keyID    [4]byte
	randomID [16]byte
)

// A token is what a challenge says.
type token struct {
	rounds      int
	roundEffort uint32
	expiry      time.Time
	id          randomID
	resource    string
}

// A keyRing has one key that signs, and any number that open.
type keyRing struct {
	signing keyID
	keys    map[keyID][]byte
}

func newKeyRing(keys ...[]byte) *keyRing {
	ring := &keyRing{keys: make(map[keyID][]byte)}
	for i, key := range keys {
		id := idOf(key)
		ring.keys[id] = key
		if i == 0 {
			ring.signing = id
		}
	}
	return ring
}

func idOf(key []byte) keyID {
	digest := sha256.Sum256(append([]byte(keyIDContext), key...))
	return keyID(digest[:4])
}

// bindingOf gives what ties a token to a client: its address, or the first 64 bits of it for IPv6.
func bindingOf(address net.Addr) []byte {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return []byte{0}
	}
	return bind(tcp.AddrPort().Addr())
}

func bind(address netip.Addr) []byte {
	address = address.Unmap().WithZone("")
	bits := 32
	if address.Is6() {
		bits = 64
	}
	prefix, err := address.Prefix(bits)
	if err != nil {
		return []byte{0}
	}
	packed := prefix.Addr().AsSlice()
	return append([]byte{byte(len(packed))}, packed...)
}

func newRandomID() (id randomID) {
	rand.Read(id[:])
	return id
}

// seal signs a token, and gives the text that travels.
func (k *keyRing) seal(t token, binding []byte) string {
	sealed := make([]byte, 0, longestToken)
	sealed = append(sealed, version, algorithm, byte(t.rounds), byte(len(t.resource)))
	sealed = binary.BigEndian.AppendUint32(sealed, t.roundEffort)
	sealed = append(sealed, k.signing[:]...)
	sealed = binary.BigEndian.AppendUint64(sealed, uint64(t.expiry.UnixMilli()))
	sealed = append(sealed, t.id[:]...)
	sealed = append(sealed, t.resource...)
	sealed = append(sealed, tagOf(k.keys[k.signing], sealed, binding)...)
	return base64.RawURLEncoding.EncodeToString(sealed)
}

// open checks a token's form, version, algorithm, key and tag, cheapest first. Its time is not looked at.
func (k *keyRing) open(text string, binding []byte) (token, error) {
	if len(text) > base64.RawURLEncoding.EncodedLen(longestToken) {
		return token{}, errInvalidChallenge
	}
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || base64.RawURLEncoding.EncodeToString(sealed) != text {
		return token{}, errInvalidChallenge
	}
	if len(sealed) < headLength || len(sealed) != headLength+int(sealed[3])+tagLength {
		return token{}, errInvalidChallenge
	}
	if sealed[0] != version || sealed[1] != algorithm {
		return token{}, errInvalidChallenge
	}
	key, known := k.keys[keyID(sealed[8:12])]
	if !known {
		return token{}, errInvalidChallenge
	}
	payload, tag := sealed[:len(sealed)-tagLength], sealed[len(sealed)-tagLength:]
	if !hmac.Equal(tag, tagOf(key, payload, binding)) {
		return token{}, errInvalidChallenge
	}
	t := token{
		rounds:      int(payload[2]),
		roundEffort: binary.BigEndian.Uint32(payload[4:]),
		expiry:      time.UnixMilli(int64(binary.BigEndian.Uint64(payload[12:]))),
		id:          randomID(payload[20:36]),
		resource:    string(payload[headLength:]),
	}
	// One that asks for no work proves nothing, whoever signed it.
	if t.rounds < 1 || t.rounds > mostRounds || t.roundEffort == 0 {
		return token{}, errInvalidChallenge
	}
	return t, nil
}

func tagOf(key, payload, binding []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signedContext))
	mac.Write(payload)
	mac.Write(binding)
	return mac.Sum(nil)
}
