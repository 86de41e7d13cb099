package refusal

import (
	"net"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

// Redirect is what MOVED or ASK says.
type Redirect struct {
	Ask  bool
	Slot int32
	To   string // the address of the node
}

// ParseRedirect parses a redirect, such as "-MOVED 3999 127.0.0.1:6381" or ASK. An empty host
// means the host of the node that answered, which is from (cluster specification, "MOVED
// Redirection"). IPv6 addresses in redirects have no brackets. ok is false if reply is something
// else, or makes no sense.
func ParseRedirect(reply []byte, from string) (r Redirect, ok bool) {
	text, _ := resp.ErrorText(reply)
	f := strings.Split(string(text), " ")
	if len(f) != 3 || f[0] != "MOVED" && f[0] != "ASK" {
		return Redirect{}, false
	}
	slot, err := strconv.ParseUint(f[1], 10, 14)
	if err != nil {
		return Redirect{}, false
	}
	colon := strings.LastIndexByte(f[2], ':')
	if colon < 0 {
		return Redirect{}, false
	}
	host, port := f[2][:colon], f[2][colon+1:]
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return Redirect{}, false
	}
	if host == "" || host == "?" {
		if host, _, err = net.SplitHostPort(from); err != nil {
			return Redirect{}, false
		}
	}
	to := net.JoinHostPort(strings.Trim(host, "[]"), port)
	return Redirect{Ask: f[0] == "ASK", Slot: int32(slot), To: to}, true
}
