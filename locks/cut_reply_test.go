package locks

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/command"
)

// TestPerKeyReplyThatIsCut: of the reply to a renewal of several locks, only the beginning may be
// seen. Locks whose whole element is there are renewed or lost; those behind stay as they were.
func TestPerKeyReplyThatIsCut(t *testing.T) {
	const reply = "*3\r\n:1\r\n:0\r\n:1\r\n"
	for cut := range len(reply) + 1 {
		s := newScene(t, Config{Size: 100})
		for _, key := range []string{"m", "n", "o"} {
			s.send("a", "EVALSHA "+redissonAcquire+" 1 "+key+" 30000 id:1", "$-1")
		}
		s.after(10 * time.Second)
		line := strings.Fields("EVALSHA " + redissonRenew + " 3 m n o 30000 id:1 id:1 id:1")
		p := s.watcher.Command(command.Lookup([]byte(line[0])), framed(t, line...), time.Unix(0, s.now), false)
		p.From(Client{Name: "a"}, "a")
		p.Replied([]byte(reply[:cut]))
		for i, key := range []string{"m", "n", "o"} {
			isWhole := cut >= 4+4*(i+1)
			r := s.row(key)
			switch {
			case r == nil:
				t.Errorf("%q: %s is gone", reply[:cut], key)
			case i == 1:
				if lost := strings.Contains(strings.Join(r.Alarms, " "), "lost"); lost != isWhole {
					t.Errorf("%q: %s is lost: %t, %s %q", reply[:cut], key, lost, r.State, r.Alarms)
				}
			case r.State != "held" || r.Renewals == 1 != isWhole:
				t.Errorf("%q: %s is %s and has %d renewals", reply[:cut], key, r.State, r.Renewals)
			}
		}
	}
}
