package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// sessionSeeds are what a client sends, and what each of two nodes answers.
var sessionSeeds = [][3]string{
	{cmd("GET", onA) + cmd("MGET", onA, onB) + cmd("PING"), "$1\r\nx\r\n*1\r\n$1\r\ny\r\n", "*1\r\n$-1\r\n"},
	{"EVALSHA 0123456789012345678901234567890123456789 1 b\r\nSCRIPT LOAD x\r\nSCRIPT FLUSH\r\nEVAL x 1 b\r\n",
		"-NOSCRIPT x\r\n*1\r\n:0\r\n", "$1\r\nx\r\n"},
	{"SCAN 0 COUNT 5\r\nSCAN 12345678 MATCH x\r\nINFO\r\nINFO keyway\r\nKEYS *\r\nDBSIZE\r\n",
		"*2\r\n$1\r\n7\r\n*1\r\n$1\r\na\r\n$3\r\nx:1\r\n*0\r\n:1\r\n", "+x\r\n"},
	{"MOD.X b\r\nCLIENT LIST\r\nCLIENT SETNAME me\r\nHELLO 2 SETNAME x\r\nWAIT 1 10\r\nRESET\r\nQUIT\r\n",
		"*1\r\n*7\r\n$5\r\nmod.x\r\n:2\r\n*0\r\n:1\r\n:1\r\n:1\r\n*0\r\n", ""},
	{cmd("SET", onA, "1") + cmd("SET", onA, "2"),
		"-MOVED 3300 10.0.0.2:1\r\n-ASK 3300 10.0.0.2:1\r\n-TRYAGAIN x\r\n", "+OK\r\n+OK\r\n+OK\r\n"},
	{"MSET a 1 b 2 a 3\r\nDEL a b\r\nMSETNX a 1 b 2\r\nSORT b BY x* GET #\r\nXREAD BLOCK 1 STREAMS b 0\r\n",
		"+OK\r\n:1\r\n", "+OK\r\n-ERR x\r\n"},
	{"MULTI\r\nSET b 1\r\nGET a\r\nFOO\r\nEXEC\r\nMULTI\r\nINCR b\r\nPING\r\nEXEC\r\nDISCARD\r\n",
		"*1\r\n*-1\r\n+OK\r\n-MOVED 3300 10.0.0.2:1\r\n+QUEUED\r\n-EXECABORT x\r\n",
		"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n+PONG\r\n"},
	{"*1\r\n$04\r\n", ">1\r\n+x\r\n", "?"},
	{"HELLO 3\r\nCLIENT TRACKING ON BCAST PREFIX a\r\nGET b\r\nMGET a b\r\nSUBSCRIBE x\r\nSSUBSCRIBE b\r\n" +
		"PUBLISH x y\r\nSPUBLISH b y\r\nPUBSUB NUMSUB x\r\nCLIENT TRACKING OFF\r\nRESET\r\n",
		"+PONG\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nb\r\n$1\r\nx\r\n:1\r\n*2\r\n$1\r\nx\r\n:1\r\n*3\r\n" +
			"$8\r\nsmessage\r\n$1\r\nb\r\n$1\r\nx\r\n", "+PONG\r\n*1\r\n_\r\n%1\r\n+a\r\n#t\r\n"},
	{"CLIENT TRACKING ON REDIRECT 1 OPTIN\r\nCLIENT CACHING YES\r\nGET b\r\nCLIENT TRACKINGINFO\r\nWATCH b\r\n" +
		"MULTI\r\nSPUBLISH b x\r\nEXEC\r\nSELECT 0\r\n", "+PONG\r\n+OK\r\n$1\r\nx\r\n+QUEUED\r\n*1\r\n:1\r\n", ""},
	{"MONITOR\r\nCLIENT REPLY SKIP\r\nGET b\r\nSLOWLOG GET\r\nLATENCY HISTOGRAM\r\nLATENCY GRAPH command\r\n" +
		"CLIENT PAUSE 10\r\nGET b\r\nCONFIG GET *\r\nWAITAOF 1 1 10\r\nSLOWLOG GET\r\nCLIENT KILL TYPE normal\r\n",
		"$1\r\nx\r\n*2\r\n$11\r\nrequirepass\r\n$1\r\nx\r\n*2\r\n:1\r\n:1\r\n", ""},
}

// FuzzSession: whatever a client sends and nodes answer, in pieces of any
// size, while keys move or not, nothing panics, and what the client is sent is whole replies, never
// more of them than it sent commands.
func FuzzSession(f *testing.F) {
	for _, s := range sessionSeeds {
		f.Add([]byte(s[0]), []byte(s[1]), []byte(s[2]), uint8(7), false)
		f.Add([]byte(s[0]), []byte(s[1]), []byte(s[2]), uint8(200), true)
	}
	f.Fuzz(func(t *testing.T, client, fromA, fromB []byte, piece uint8, cluster bool) {
		if len(client)+len(fromA)+len(fromB) > 8192 {
			return
		}
		r := newRig(t, Options{})
		if cluster {
			r = newClusterRig(t, Options{})
		}
		if piece >= 128 {
			r.replaceLayout(movingTable(t, r))
		}
		step := max(1, int(piece))
		take := func(b *[]byte) []byte {
			n := min(step, len(*b))
			head := (*b)[:n]
			*b = (*b)[n:]
			return head
		}
		got := ""
		for i := 0; len(client)+len(fromA)+len(fromB) > 0 || i < 4; i++ {
			if b := take(&client); len(b) > 0 && r.s.Reading() {
				r.w.Received(r.s, b)
			}
			got += r.got()
			for n, from := range []*[]byte{&fromA, &fromB} {
				all := r.conns(n)
				if b := take(from); len(b) > 0 && len(all) > 0 {
					all[i%len(all)].Received(b, r.now)
				}
			}
			got += r.got()
			r.pass(20 * time.Millisecond)
		}
		r.pass(3 * time.Second) // every deadline passes
		got += r.got()
		for rest := []byte(got); len(rest) > 0; {
			var ok bool
			if _, rest, ok = resp.Split(rest); !ok {
				if r.s.Dead() || strings.Contains(string(rest), "|") {
					return // broken off with the node's reply, and told so
				}
				t.Fatalf("not a whole reply: %q", rest)
			}
		}
	})
}
