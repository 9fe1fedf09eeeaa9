package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"os"
	"time"
)

const (
	maxFrame     = 4096
	maxExchanges = 1000
	// patience is how long the next frame may take to come, and its answer to be taken.
	patience = 30 * time.Second
)

// A connection carries many exchanges, one after the other.
type connection struct {
	conn    net.Conn
	reader  *bufio.Reader
	gate    *gate
	binding []byte
}

func newConnection(conn net.Conn, gate *gate) *connection {
	return &connection{conn, bufio.NewReader(conn), gate, bindingOf(conn.RemoteAddr())}
}

func (c *connection) serve() {
	defer c.conn.Close()
	for range 2 * maxExchanges {
		if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return
		}
		answer, err := c.answer()
		if err == nil {
			err = c.write(answer)
		}
		if err != nil && !c.refuse(err) {
			return
		}
	}
	c.refuse(errBusy)
}

// answer reads a frame, and gives the message that answers it.
func (c *connection) answer() (any, error) {
	body, err := c.readFrame()
	if err != nil {
		return nil, err
	}
	message, err := decode(body)
	if err != nil {
		return nil, err
	}
	if message.Type == "solution" {
		return c.gate.redeem(*message.Challenge, message.Nonces, c.binding)
	}
	resource := "quote"
	if message.Resource != nil {
		resource = *message.Resource
	}
	return c.gate.issue(resource, c.binding)
}

func (c *connection) readFrame() ([]byte, error) {
	var header [4]byte
	if _, err := io.ReadFull(c.reader, header[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(header[:])
	if length < 1 || length > maxFrame {
		return nil, errFrameTooLarge
	}
	body := make([]byte, length)
	_, err := io.ReadFull(c.reader, body)
	return body, err
}

func (c *connection) write(message any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	_, err = c.conn.Write(append(frame, body...))
	return err
}

// refuse tells the client what went wrong, if it is there to hear it, and says whether the connection goes on.
func (c *connection) refuse(err error) bool {
	var refused *refusal
	var network net.Error
	switch {
	case errors.As(err, &refused):
	case errors.Is(err, os.ErrDeadlineExceeded):
		refused = errTimeout
		c.conn.SetDeadline(time.Now().Add(time.Second))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network):
		return false
	default:
		log.Print(err)
		refused = errInternal
	}
	told := c.write(&errorMessage{Type: "error", Code: refused.code, Message: refused.message})
	return told == nil && !refused.closes
}
