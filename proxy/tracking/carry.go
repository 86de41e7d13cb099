package tracking

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// carried is the written form of a client's CLIENT TRACKING, for another process.
type carried struct {
	Bcast    bool           `json:"bcast,omitempty"`
	OptIn    bool           `json:"optin,omitempty"`
	OptOut   bool           `json:"optout,omitempty"`
	NoLoop   bool           `json:"noloop,omitempty"`
	Prefixes [][]byte       `json:"prefixes,omitempty"`
	Choice   engine.Caching `json:"choice,omitempty"` // of CLIENT CACHING, for the next command
}

// TrackingOf implements engine.Trackers.
func (of *trackers) TrackingOf(s *engine.Session) (form []byte, ok bool) {
	t := trackings.Get(s)
	if t == nil || !t.begun || t.redirect != 0 || !s.Has(engine.RESP3) {
		return nil, false
	}
	form, err := json.Marshal(carried{t.bcast, t.optin, t.optout, t.noloop, t.prefixes, t.choice})
	return form, err == nil
}

// ResumeTracking implements engine.Trackers. What the client has cached becomes invalid, because
// nobody has told it of changes meanwhile.
func (of *trackers) ResumeTracking(s *engine.Session, form []byte) error {
	var c carried
	d := json.NewDecoder(bytes.NewReader(form))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return fmt.Errorf("reading how a client tracks: %w", err)
	}
	t := &tracking{w: of.w, sess: s, conns: map[*engine.Node]*pool.Conn{}, choice: c.Choice, begun: true}
	t.bcast, t.optin, t.optout, t.noloop, t.prefixes = c.Bcast, c.OptIn, c.OptOut, c.NoLoop, c.Prefixes
	track(of.w, s, t)
	t.openAll()
	t.ForgetAll()
	return nil
}
