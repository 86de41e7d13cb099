package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Kind says what a message is.
type Kind string

// The kinds of messages; see the package's comment.
const (
	Hello    Kind = "hello"
	Listener Kind = "listener"
	Feed     Kind = "feed"
	Ready    Kind = "ready"
	Serve    Kind = "serve"
	Client   Kind = "client"
	Taken    Kind = "taken"
	Refused  Kind = "refused"
	End      Kind = "end"
)

// Message is one message. Which fields have a meaning depends on the kind.
type Message struct {
	Kind    Kind   `json:"kind"`
	Version int    `json:"version,omitempty"` // Hello: of the form of clients
	Program string `json:"program,omitempty"` // Hello, Ready: keyway's version, for the log
	Pool    string `json:"pool,omitempty"`    // of a listener, a feed or a client; empty: there are no pools
	// Name is a listener's address as the configuration has it, or the address of a feed's node.
	Name    string `json:"name,omitempty"`
	Thread  int    `json:"thread,omitempty"`  // Feed: which. Hello: how many
	Primary bool   `json:"primary,omitempty"` // Feed: it carries what is published anywhere in a cluster
	// ID is a client's id. In Serve it is an id that no client exceeds.
	ID     uint64          `json:"id,omitempty"`
	Client json.RawMessage `json:"client,omitempty"` // Client: its written form
	Reason string          `json:"reason,omitempty"` // Refused
	// Part is not in the JSON, because it may be large. Feed: the beginning of a message. Client: what is not
	// written to it yet.
	Part []byte `json:"-"`
}

const (
	maxPacket  = 64 << 10 // a packet has to fit into the buffer of a Unix socket
	maxMessage = 1 << 30
	maxFiles   = 253 // SCM_MAX_FD of Linux
)

// The first byte of a packet says what it is: bytes of Part, which come first, or of the JSON. The
// last packet of a message has the end of the JSON.
const (
	ofPart = '='
	goesOn = '+'
	isLast = '.'
)

// Conn is one end of the conversation. Send may be called from any goroutine, Receive from one at
// a time.
type Conn struct {
	unix    *net.UnixConn
	sending sync.Mutex
}

// newConn returns the end of the conversation that a descriptor is. It takes over the file.
func newConn(f *os.File) (*Conn, error) {
	c, err := net.FileConn(f)
	f.Close() // net.FileConn has made a copy
	if err != nil {
		return nil, fmt.Errorf("opening the conversation: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("opening the conversation: the descriptor is no Unix socket")
	}
	return &Conn{unix: u}, nil
}

// Send sends a message with descriptors, of which the other process gets copies.
func (c *Conn) Send(m Message, descriptors ...int) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("sending %s: %w", m.Kind, err)
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	for part := m.Part; len(part) > 0; part = part[min(len(part), maxPacket-1):] {
		if err := c.write(ofPart, part[:min(len(part), maxPacket-1)], nil); err != nil {
			return fmt.Errorf("sending %s: %w", m.Kind, err)
		}
	}
	for ; len(b) >= maxPacket; b = b[maxPacket-1:] {
		if err := c.write(goesOn, b[:maxPacket-1], nil); err != nil {
			return fmt.Errorf("sending %s: %w", m.Kind, err)
		}
	}
	var rights []byte
	if len(descriptors) > 0 {
		rights = unix.UnixRights(descriptors...)
	}
	if err := c.write(isLast, b, rights); err != nil {
		return fmt.Errorf("sending %s: %w", m.Kind, err)
	}
	return nil
}

func (c *Conn) write(flag byte, b, rights []byte) error {
	_, _, err := c.unix.WriteMsgUnix(append([]byte{flag}, b...), rights, nil)
	return err
}

// Receive returns the next message, and the descriptors that came with it, which belong to the
// caller. It returns io.EOF when the other process has ended.
func (c *Conn) Receive() (m Message, descriptors []int, err error) {
	var text, part []byte
	for flag := byte(goesOn); flag != isLast; {
		var b []byte
		if flag, b, descriptors, err = c.read(); err != nil {
			return m, nil, err
		}
		if flag == ofPart {
			part = append(part, b...)
		} else {
			text = append(text, b...)
		}
		if len(text)+len(part) > maxMessage {
			CloseAll(descriptors)
			return m, nil, errors.New("receiving from the other process: the message is too long")
		}
	}
	if err := json.Unmarshal(text, &m); err != nil {
		CloseAll(descriptors)
		return m, nil, fmt.Errorf("receiving from the other process: %w", err)
	}
	m.Part = part
	return m, descriptors, nil
}

// read returns the next packet.
func (c *Conn) read() (flag byte, b []byte, descriptors []int, err error) {
	b, rights := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, nRights, _, _, err := c.unix.ReadMsgUnix(b, rights)
	switch {
	case errors.Is(err, unix.ECONNRESET), err == nil && n == 0:
		err = io.EOF
	case err == nil:
		descriptors, err = rightsIn(rights[:nRights])
	}
	if err != nil {
		return 0, nil, nil, fmt.Errorf("receiving from the other process: %w", err)
	}
	return b[0], b[1:n], descriptors, nil
}

func rightsIn(b []byte) (descriptors []int, err error) {
	messages, err := unix.ParseSocketControlMessage(b)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			CloseAll(descriptors)
			return nil, err
		}
		descriptors = append(descriptors, fds...)
	}
	return descriptors, nil
}

// CloseAll closes descriptors.
func CloseAll(descriptors []int) {
	for _, fd := range descriptors {
		_ = unix.Close(fd) // nothing was written to it
	}
}

// ReadNoLonger makes Receive fail once it has returned what has come. The other process has ended, but
// may have left others that keep its end open.
func (c *Conn) ReadNoLonger() { _ = c.unix.CloseRead() }

// Close ends the conversation.
func (c *Conn) Close() { c.unix.Close() }
