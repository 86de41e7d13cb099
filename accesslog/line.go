package accesslog

import (
	"encoding/hex"
	"time"

	"github.com/keyway-proxy/keyway/journey"
	"github.com/keyway-proxy/keyway/resp"
)

// line is a line of the log. Texts are as in [resp.Text].
type line struct {
	Time       time.Time `json:"time"` // when the command began
	Pool       string    `json:"pool,omitempty"`
	Client     string    `json:"client"`
	ClientName string    `json:"client_name,omitempty"`
	User       string    `json:"user"`
	Database   int       `json:"db"`
	Command    string    `json:"command"`
	Key        *string   `json:"key,omitempty"`
	KeyHash    string    `json:"key_hash,omitempty"`
	Keys       int       `json:"keys,omitempty"`
	BytesIn    int       `json:"bytes_in"`
	BytesOut   int       `json:"bytes_out"`
	Duration   int64     `json:"duration_us"`
	Queue      *int64    `json:"queue_us,omitempty"` // until the first node was sent the command
	AtNodes    *int64    `json:"node_us,omitempty"`
	Node       string    `json:"node,omitempty"`  // whose reply came last
	Tries      []try     `json:"tries,omitempty"` // if there are several
	Error      string    `json:"error,omitempty"`
	Slow       bool      `json:"slow,omitempty"`
	Cut        bool      `json:"client_left,omitempty"`
	Trace      string    `json:"trace_id,omitempty"`
}

// try is one call at one node.
type try struct {
	Node   string `json:"node"`
	Micros int64  `json:"us"`
	Error  string `json:"error,omitempty"`
}

// lineOf returns the line of a journey. It shows of keys what is asked for.
func lineOf(pool string, j *journey.Journey, showKey, showHash bool) line {
	l := line{
		Time: j.Wall(j.Start), Pool: pool, Client: j.Client, ClientName: resp.Text([]byte(j.ClientName)), User: j.User,
		Database: j.Database, Command: j.Name(), Keys: j.Keys, BytesIn: j.BytesIn, BytesOut: j.BytesOut,
		Duration: j.Duration().Microseconds(), Error: j.Error, Slow: j.IsSlow, Cut: j.IsCut,
	}
	if j.Keys > 0 && showKey {
		key := resp.Text(j.Key.Text())
		l.Key = &key
	}
	if j.Keys > 0 && showHash {
		hash := j.Key.Hash()
		l.KeyHash = hex.EncodeToString(hash[:])
	}
	if queued, ok := j.Queued(); ok {
		us := queued.Microseconds()
		l.Queue = &us
	}
	if all := j.Attempts(); len(all) > 0 {
		us := j.AtNodes().Microseconds()
		l.Node, l.AtNodes = all[len(all)-1].Node, &us
		for i := 0; i < len(all) && len(all) > 1; i++ {
			l.Tries = append(l.Tries, tryOf(&all[i]))
		}
	}
	if j.For.Has(journey.ForTrace) {
		l.Trace = hex.EncodeToString(j.Trace[:])
	}
	return l
}

func tryOf(a *journey.Attempt) try {
	t := try{Node: a.Node, Error: a.Result}
	if a.Written != 0 {
		t.Micros = time.Duration(max(a.Ended-a.Written, 0)).Microseconds()
	}
	return t
}
