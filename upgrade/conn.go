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
	Part    []byte `json:"part,omitempty"`    // Feed: the beginning of a message
	// ID is a client's id. In Serve it is one that no client exceeds.
	ID     uint64          `json:"id,omitempty"`
	Client json.RawMessage `json:"client,omitempty"` // Client: its written form
	Reason string          `json:"reason,omitempty"` // Refused
}

// MaxClient is how long the written form of a client may be, in bytes. A message has to fit into
// the buffer of a Unix socket.
const MaxClient = 96 << 10

const (
	maxMessage = MaxClient + 4<<10
	maxFiles   = 253 // SCM_MAX_FD of Linux
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
	var rights []byte
	if len(descriptors) > 0 {
		rights = unix.UnixRights(descriptors...)
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	if _, _, err := c.unix.WriteMsgUnix(b, rights, nil); err != nil {
		return fmt.Errorf("sending %s: %w", m.Kind, err)
	}
	return nil
}

// Receive returns the next message, and the descriptors that came with it, which belong to the
// caller. It returns io.EOF when the other process has ended.
func (c *Conn) Receive() (m Message, descriptors []int, err error) {
	b, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, nRights, _, _, err := c.unix.ReadMsgUnix(b, rights)
	if err != nil {
		if errors.Is(err, unix.ECONNRESET) {
			err = io.EOF
		}
		return m, nil, fmt.Errorf("receiving from the other process: %w", err)
	}
	if n == 0 {
		return m, nil, io.EOF
	}
	if descriptors, err = rightsIn(rights[:nRights]); err != nil {
		return m, nil, fmt.Errorf("receiving descriptors: %w", err)
	}
	if err := json.Unmarshal(b[:n], &m); err != nil {
		CloseAll(descriptors)
		return m, nil, fmt.Errorf("receiving from the other process: %w", err)
	}
	return m, descriptors, nil
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

// Close ends the conversation.
func (c *Conn) Close() { c.unix.Close() }
