package console

import (
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// TestAppend: replies have what JSON has, with dashes in names, in the types of both versions of the protocol.
func TestAppend(t *testing.T) {
	type inner struct {
		Small float64 `json:"small_number"`
	}
	lag := 0.5
	value := struct {
		inner
		Name   string    `json:"name"`
		Empty  string    `json:"empty,omitempty"`
		Slow   bool      `json:"slow"`
		At     time.Time `json:"at"`
		Lag    *float64  `json:"lag,omitempty"`
		Total  uint64    `json:"total"`
		List   []inner   `json:"list"`
		Fields []string  `json:"fields"`
	}{
		inner: inner{0.000123456789}, Name: "a", Slow: true, At: time.Unix(1, 0), Lag: &lag, Total: 7,
		List: []inner{{1e6 + 0.4}}, Fields: []string{"k=v"},
	}
	rest := "$4\r\nname\r\n$1\r\na\r\n$4\r\nslow\r\n:1\r\n$2\r\nat\r\n$20\r\n1970-01-01T00:00:01Z\r\n"
	tail := "$5\r\ntotal\r\n:7\r\n$4\r\nlist\r\n*1\r\n"
	end := "$6\r\nfields\r\n*1\r\n$3\r\nk=v\r\n"
	for v, want := range map[resp.Version]string{
		resp.V3: "%8\r\n$12\r\nsmall-number\r\n,0.000123457\r\n" + rest + "$3\r\nlag\r\n,0.5\r\n" + tail +
			"%1\r\n$12\r\nsmall-number\r\n,1000000\r\n" + end,
		resp.V2: "*16\r\n$12\r\nsmall-number\r\n$11\r\n0.000123457\r\n" + rest + "$3\r\nlag\r\n$3\r\n0.5\r\n" + tail +
			"*2\r\n$12\r\nsmall-number\r\n$7\r\n1000000\r\n" + end,
	} {
		if got := string(Append(nil, v, value)); got != want {
			t.Errorf("RESP%d:\n%q, want\n%q", v, got, want)
		}
	}
}
