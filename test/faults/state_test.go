package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// stateCommands change the state of the connection they come on, or the number of
// its replies; with the beginnings of what keyway may answer.
var stateCommands = map[string]string{
	"CLIENT REPLY ON":                       "+OK",
	"CLIENT REPLY OFF":                      "",
	"CLIENT REPLY SKIP":                     "",
	"CLIENT SETNAME me":                     "+OK",
	"CLIENT NO-EVICT on":                    "+OK",
	"CLIENT NO-TOUCH on":                    "",
	"CLIENT TRACKING on":                    "+OK",
	"CLIENT TRACKING on bcast":              "+OK",
	"CLIENT CACHING yes":                    "-ERR CLIENT CACHING",
	"CLIENT PAUSE 20":                       "+OK",
	"CLIENT PAUSE 20 WRITE":                 "+OK",
	"CLIENT UNPAUSE":                        "+OK",
	"CLIENT KILL ID 999999999":              ":0",
	"SUBSCRIBE a b c":                       "",
	"PSUBSCRIBE a* b*":                      "",
	"SSUBSCRIBE a":                          "",
	"UNSUBSCRIBE":                           "",
	"PUNSUBSCRIBE":                          "",
	"SUNSUBSCRIBE":                          "",
	"MONITOR":                               "+OK",
	"SYNC":                                  "-ERR keyway",
	"PSYNC ? -1":                            "-ERR keyway",
	"REPLCONF ack 1":                        "-ERR keyway",
	"HELLO 3":                               "%7",
	"HELLO 2":                               "*14",
	"HELLO 9":                               "-NOPROTO",
	"AUTH x":                                "-ERR AUTH <password> called",
	"AUTH a b":                              "-WRONGPASS",
	"RESET":                                 "+RESET",
	"QUIT":                                  "+OK",
	"SELECT 0":                              "+OK",
	"SELECT 1":                              "",
	"READONLY":                              "-ERR This instance",
	"READWRITE":                             "-ERR This instance",
	"ASKING":                                "-ERR This instance",
	"MULTI":                                 "+OK",
	"EXEC":                                  "-ERR EXEC without MULTI",
	"DISCARD":                               "-ERR DISCARD without MULTI",
	"WATCH d6:a":                            "+OK",
	"UNWATCH":                               "+OK",
	"BLPOP d6:none 0.01":                    "*-1",
	"BRPOP d6:none 0.01":                    "*-1",
	"BLMOVE d6:none d6:none LEFT LEFT 0.01": "",
	"BZPOPMIN d6:none 0.01":                 "*-1",
	"BLMPOP 0.01 1 d6:none LEFT":            "*-1",
	"BZMPOP 0.01 1 d6:none MIN":             "*-1",
	"XREAD BLOCK 10 STREAMS d6:none $":      "*-1",
	"WAIT 0 10":                             ":0",
	"WAITAOF 0 0 10":                        "",
	"SCRIPT DEBUG yes":                      "-ERR keyway",
	"DEBUG SLEEP 1":                         "-ERR keyway",
	"SHUTDOWN":                              "-ERR keyway",
	"REPLICAOF no one":                      "-ERR keyway",
	"FAILOVER":                              "-ERR keyway",
	"CLUSTER RESET":                         "-ERR This instance",
	"MIGRATE a 1 k 0 1":                     "-ERR keyway",
}

// TestStateCommandsHarmNobodyElse: one client sends every command that would change the state
// of a shared connection, while others send pipelines to the same nodes. The others see no
// difference, and the first client's next commands are answered as usual.
func TestStateCommandsHarmNobodyElse(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	for _, layout := range []string{"slots", "ring"} {
		k := redistest.Serve(t, redistest.Layouts(nodes)[layout]).Ready()
		l := (&load{addr: k.Addr, clients: 6, prefix: layout}).start(t)
		l.more(t, 1_000)
		for _, protocol := range []string{"2", "3"} {
			for command, want := range stateCommands {
				for range scale(1, 20) {
					a, c := k.Dial(), k.Dial()
					a.MustDo("HELLO", protocol)
					a.Raw(command + "\r\n")
					a.Flush()
					if want != "" {
						if got, err := a.ReceiveRaw(); err != nil || protocol == "2" && !strings.HasPrefix(got, want) {
							t.Errorf("%s: %q (%v), want %q", command, got, err, want)
						}
					}
					// Whatever state its connection is in, another's is not.
					key := fmt.Sprint("d6:", time.Now().UnixNano())
					c.Expect("OK", "SET", key, command)
					c.Expect(command, "GET", key)
					c.Expect("1", "DEL", key)
					a.Close()
					c.Close()
				}
			}
		}
		l.more(t, 1_000)
		l.halt()
		if l.errors() > 0 {
			t.Errorf("%s: others have noticed: %v", layout, &l.tally)
		}
		l.settle(t, k.Addr)
		health(t, k)
		k.Stop()
	}
}
