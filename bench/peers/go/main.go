// The wow protocol, version 1, written plainly in Go with the standard library alone: what wow is compared with.
//
// It prints its port and serves until it is terminated.
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"log"
	"net"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	address := flag.String("address", "127.0.0.1:0", "to listen on")
	rounds := flag.Int("rounds", 8, "of a challenge")
	effort := flag.Uint("round-effort", 1, "expected hashes of a round")
	ttl := flag.Duration("ttl", time.Minute, "life of a challenge")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)

	// The key is made anew at every start, and with it every token of before is void.
	// So it does no harm that what was spent is forgotten.
	key := make([]byte, 32)
	rand.Read(key)
	spent := newSpentStore()
	go spent.purgeEvery(ctx, 10*time.Second)
	gate := &gate{
		keys:        newKeyRing(key),
		spent:       spent,
		rounds:      *rounds,
		roundEffort: uint32(*effort),
		ttl:         *ttl,
	}
	if err := serve(ctx, listener, gate); err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context, listener net.Listener, gate *gate) error {
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go newConnection(conn, gate).serve()
	}
}
