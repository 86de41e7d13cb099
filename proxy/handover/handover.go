// Package handover is the written form of a client between two commands: what one process tells
// another so that the client does not notice who serves it.
//
// The form has a version. A process that reads a field it does not know refuses the client, because
// it would otherwise forget something that the client has asked for.
package handover

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// Version is the version of the form. It grows when a field changes its meaning; a new field does
// not change it.
const Version = 1

// MaxInput is how many bytes of an unfinished command a client may have sent. A client that is in
// the middle of a longer one cannot be handed over.
const MaxInput = 32 << 10

// client is the written form.
type client struct {
	ID            uint64 `json:"id"`
	Peer          string `json:"peer"`
	Local         string `json:"local"`
	User          []byte `json:"user"`
	Authenticated bool   `json:"authenticated,omitempty"`
	DB            uint16 `json:"db,omitempty"`
	RESP3         bool   `json:"resp3,omitempty"`
	Name          string `json:"name,omitempty"`
	LibName       string `json:"lib_name,omitempty"`
	LibVersion    string `json:"lib_version,omitempty"`
	Reply         string `json:"reply,omitempty"` // of CLIENT REPLY: off, or skip for the next command
	NoTouch       bool   `json:"no_touch,omitempty"`
	Reads         string `json:"reads,omitempty"` // its last READONLY or READWRITE
	Connected     int64  `json:"connected_ms"`
	Idle          int64  `json:"idle_ms"`
	BytesIn       uint64 `json:"bytes_in,omitempty"`
	BytesOut      uint64 `json:"bytes_out,omitempty"`
	Commands      uint64 `json:"commands,omitempty"`
	LastCommand   string `json:"last_command,omitempty"`
	Input         []byte `json:"input,omitempty"` // what it has sent of its next commands

	Tracking json.RawMessage `json:"tracking,omitempty"` // of CLIENT TRACKING; package tracking knows the form
	Topics   [3][][]byte     `json:"topics,omitzero"`    // what it is subscribed to; see engine.Topics
}

const (
	replyOff  = "off"
	replySkip = "skip"
	readOnly  = "readonly"
	readWrite = "readwrite"
)

// Readiness says whether another process can take a client over.
type Readiness uint8

const (
	Soon  Readiness = iota // it is in the middle of something
	Ready                  // now
	Never                  // not while it has subscriptions, sees MONITOR or is a user of the nodes
)

// Prepare makes the client's next command wait, unless that would keep it from becoming ready, and
// returns whether it is ready. After Ready or Soon, engine.GoOn makes keyway serve it again.
func Prepare(s *engine.Session) Readiness {
	if s.Has(engine.Subscribed|engine.Monitoring|engine.OfNodes) || !tracksPortably(s) {
		letGoOn(s)
		return Never
	}
	if holdBack(s) && s.Unsent.Size() == 0 {
		return Ready
	}
	return Soon
}

// PrepareSubscriber is Prepare for a client with subscriptions, which may have output that is not
// written yet. It is never ready if it gets invalidations for another client.
func PrepareSubscriber(s *engine.Session) Readiness {
	channels := s.Worker.Subscriptions.TopicsOf(s)[0]
	if s.Has(engine.Monitoring|engine.OfNodes) || !tracksPortably(s) || slices.Contains(channels, invalidations) {
		letGoOn(s)
		return Never
	}
	if holdBack(s) {
		return Ready
	}
	return Soon
}

// tracksPortably reports whether another process could go on with the client's CLIENT TRACKING, if it
// uses that.
func tracksPortably(s *engine.Session) bool {
	if !s.Has(engine.Tracks) {
		return true
	}
	_, ok := s.Worker.Trackers.TrackingOf(s)
	return ok
}

// invalidations is the channel on which a client gets invalidations in RESP2.
const invalidations = "__redis__:invalidate"

// holdBack makes the client's next command wait, and reports whether the client is between two
// commands. But commands that end a transaction, or complete what the client has begun to send,
// are served.
func holdBack(s *engine.Session) bool {
	if s.Block != nil || len(s.In) > MaxInput {
		letGoOn(s)
		return false
	}
	if !engine.IsHeldBack(s) {
		engine.HoldBack(s)
	}
	return engine.IsIdle(s)
}

func letGoOn(s *engine.Session) {
	if engine.IsHeldBack(s) {
		engine.GoOn(s)
	}
}

// Write returns the written form of a client that is Ready, and what is not written to the client yet.
func Write(s *engine.Session) (form, output []byte) {
	now := s.Worker.Now
	c := client{
		ID: s.ID(), Peer: s.Peer(), Local: s.Local, User: []byte(s.User.Name), Authenticated: s.Has(engine.Authed),
		DB: s.DB, RESP3: s.Has(engine.RESP3), Name: s.About.Name, LibName: s.About.LibName,
		LibVersion: s.About.LibVersion, NoTouch: s.Has(engine.NoTouch), Connected: ms(now - s.OpenedAt),
		Idle: ms(now - s.ActiveAt), BytesIn: s.BytesIn - uint64(len(s.In)), BytesOut: s.BytesOut, Commands: s.Commands,
		Input: s.In,
	}
	if s.Has(engine.Subscribed) {
		for kind, names := range s.Worker.Subscriptions.TopicsOf(s) {
			for _, name := range names {
				c.Topics[kind] = append(c.Topics[kind], []byte(name))
			}
		}
	}
	switch {
	case s.Has(engine.Silent):
		c.Reply = replyOff
	case s.Has(engine.Skipping):
		c.Reply = replySkip
	}
	switch {
	case s.Has(engine.OptedIn):
		c.Reads = readOnly
	case s.Has(engine.OptedOut):
		c.Reads = readWrite
	}
	if s.LastCmd != nil {
		c.LastCommand = s.LastCmd.Name
	}
	if s.Has(engine.Tracks) {
		c.Tracking, _ = s.Worker.Trackers.TrackingOf(s)
	}
	form, err := json.Marshal(c)
	if err != nil { // no value of a client's fields makes it fail
		panic(fmt.Sprintf("handover: writing down a client: %v", err))
	}
	return form, s.Unsent.Copy()
}

func ms(ns int64) int64 { return ns / int64(time.Millisecond) }

// Client is a client that another process has written down.
type Client struct{ form client }

// Read reads the written form of a client. It fails if that has a field that this version does
// not know.
func Read(form []byte) (Client, error) {
	var c Client
	d := json.NewDecoder(bytes.NewReader(form))
	d.DisallowUnknownFields()
	if err := d.Decode(&c.form); err != nil {
		return Client{}, fmt.Errorf("reading what another process knows of a client: %w", err)
	}
	switch f := &c.form; {
	case f.ID == 0:
		return Client{}, errors.New("reading what another process knows of a client: it has no id")
	case f.Reply != "" && f.Reply != replyOff && f.Reply != replySkip,
		f.Reads != "" && f.Reads != readOnly && f.Reads != readWrite:
		return Client{}, fmt.Errorf("reading what another process knows of client %d: unknown state %q %q",
			f.ID, f.Reply, f.Reads)
	}
	return c, nil
}

// ID returns the client's id.
func (c *Client) ID() uint64 { return c.form.ID }

// Open starts the client's session, which goes on where the other process has stopped. The caller
// then passes Input to [engine.Worker.Received]. output is what the other process has not written to the
// client. Open fails if the worker does not have the client's user. It calls known once all workers know of
// the client's subscriptions.
func (c *Client) Open(w *engine.Worker, bind any, output []byte, known func()) (*engine.Session, error) {
	f := &c.form
	user := w.Options.Users.Get(f.User)
	switch {
	case f.Authenticated && w.Options.OfNodes:
		return nil, fmt.Errorf("client %d: it is no user of the nodes, as auth: passthrough demands", f.ID)
	case user == nil:
		return nil, fmt.Errorf("client %d: there is no user %q", f.ID, f.User)
	}
	s := engine.TakeOver(w, bind, f.ID, f.Peer, f.Local)
	if w.Limiter == nil || !w.Limiter.Join(s, user) {
		engine.UseUser(s, user)
	}
	s.DB = f.DB
	s.OpenedAt -= f.Connected * int64(time.Millisecond)
	s.ActiveAt -= f.Idle * int64(time.Millisecond)
	s.BytesIn, s.BytesOut, s.Commands = f.BytesIn, f.BytesOut, f.Commands
	s.LastCmd = command.Lookup([]byte(f.LastCommand))
	if about := (clients.About{Name: f.Name, LibName: f.LibName, LibVersion: f.LibVersion}); about != *s.About {
		*s.AllocAbout() = about
	}
	c.restoreState(s)
	w.Reads.Decide(s)
	if len(output) > 0 {
		s.Tell(output)
	}
	if len(f.Tracking) > 0 {
		if err := w.Trackers.ResumeTracking(s, f.Tracking); err != nil {
			w.Gone(s)
			return nil, fmt.Errorf("client %d: %w", f.ID, err)
		}
	}
	var topics engine.Topics
	for kind, names := range f.Topics {
		for _, name := range names {
			topics[kind] = append(topics[kind], string(name))
		}
	}
	if slices.ContainsFunc(topics[:], func(names []string) bool { return len(names) > 0 }) {
		w.Subscriptions.Resume(s, topics, known)
	} else {
		known()
	}
	return s, nil
}

func (c *Client) restoreState(s *engine.Session) {
	f := &c.form
	if f.Authenticated {
		s.Set(engine.Authed)
	}
	if f.RESP3 {
		s.Set(engine.RESP3)
	}
	if f.NoTouch {
		s.Set(engine.NoTouch)
	}
	switch f.Reply {
	case replyOff:
		s.Set(engine.Silent)
	case replySkip:
		s.Set(engine.Skipping)
	}
	switch f.Reads {
	case readOnly:
		s.Set(engine.OptedIn)
	case readWrite:
		s.Set(engine.OptedOut)
	}
}

// Input returns what the client has sent of its next commands.
func (c *Client) Input() []byte { return c.form.Input }
