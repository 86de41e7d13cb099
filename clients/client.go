package clients

import (
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// Identity is what CLIENT LIST and CLIENT KILL select clients by.
type Identity struct {
	ID              uint64
	Addr, LocalAddr string        // of the client, and of keyway's end of the connection
	User            string        // its name
	Subscribed      bool          // the client has subscriptions
	Age             time.Duration // of the connection
}

// Client describes a client.
type Client struct {
	Identity
	About
	Idle      time.Duration // since the client's last command
	Flags     string
	DB        uint16
	Version   resp.Version
	Redirects int64  // ID of the client that gets its invalidations; -1 or 0: none
	Command   string // its last one; empty: none

	Channels, Patterns, ShardChannels int // subscriptions
	Queued, Watched                   int // commands between MULTI and EXEC, -1 outside; watched keys

	Asking                  int // size of the CLIENT command that asks, 0 if another client has sent it
	Input, InputFree        int // bytes of the input buffer
	TransactionBytes        int
	OutputBytes             int // in all chunks
	OutputChunks, FirstSize int // number of chunks of output, and bytes of the first
	Parked                  int // bytes of replies that wait for earlier ones
	Memory                  int
	BytesIn, BytesOut       uint64
	Commands                uint64
}

// AppendLine appends the client's line in CLIENT LIST (networking.c, catClientInfoString).
func (c *Client) AppendLine(b []byte) []byte {
	last, events := "NULL", "r"
	if c.Command != "" {
		last = c.Command
	}
	if c.OutputBytes > 0 {
		events = "rw"
	}
	number := func(name string, n int) { b = strconv.AppendInt(append(b, name...), int64(n), 10) }
	large := func(name string, n uint64) { b = strconv.AppendUint(append(b, name...), n, 10) }
	text := func(name, s string) { b = append(append(b, name...), s...) }
	large("id=", c.ID) // fmt would take most of the time of CLIENT LIST
	text(" addr=", c.Addr)
	text(" laddr=", c.LocalAddr)
	text(" fd=0 name=", c.Name)
	number(" age=", int(c.Age/time.Second))
	number(" idle=", int(c.Idle/time.Second))
	text(" flags=", c.Flags)
	number(" db=", int(c.DB))
	number(" sub=", c.Channels)
	number(" psub=", c.Patterns)
	number(" ssub=", c.ShardChannels)
	number(" multi=", c.Queued)
	number(" watch=", c.Watched)
	number(" qbuf=", max(c.Input, c.Asking))
	number(" qbuf-free=", c.InputFree)
	number(" argv-mem=", c.Asking)
	number(" multi-mem=", c.TransactionBytes)
	number(" obl=", c.FirstSize)
	number(" oll=", c.OutputChunks)
	number(" omem=", c.OutputBytes-c.FirstSize+c.Parked)
	number(" tot-mem=", c.Memory)
	text(" events=", events)
	text(" cmd=", last)
	text(" user=", c.User)
	number(" redir=", int(c.Redirects))
	number(" resp=", int(c.Version))
	if c.LibName != "" || c.LibVersion != "" {
		text(" lib-name=", c.LibName)
		text(" lib-ver=", c.LibVersion)
	}
	large(" tot-net-in=", c.BytesIn)
	large(" tot-net-out=", c.BytesOut)
	large(" tot-cmds=", c.Commands)
	return append(b, '\n')
}

// Help is the text of CLIENT HELP: the subcommands that keyway answers.
var Help = []string{
	"CACHING (YES|NO)", "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
	"GETREDIR", "    Return the client ID we are redirecting to when tracking is enabled.",
	"GETNAME", "    Return the name of the current connection.",
	"ID", "    Return the ID of the current connection.",
	"INFO", "    Return information about the current client connection.",
	"KILL <ip:port>", "    Kill connection made from <ip:port>.",
	"KILL <option> <value> [<option> <value> [...]]",
	"    Kill connections of this keyway by ADDR, LADDR, TYPE, USER, SKIPME, ID or MAXAGE.",
	"LIST [options ...]",
	"    Return information about client connections of this keyway: TYPE (NORMAL|PUBSUB), ID <id> ...",
	"UNPAUSE", "    Stop the current client pause, resuming traffic.",
	"PAUSE <timeout> [WRITE|ALL]",
	"    Suspend all, or just write, clients of this keyway for <timeout> milliseconds.",
	"REPLY (ON|OFF|SKIP)", "    Control the replies sent to the current connection.",
	"SETINFO <option> <value>", "    Set client meta attr: LIB-NAME, LIB-VER.",
	"SETNAME <name>", "    Assign the name <name> to the current connection.",
	"UNBLOCK <clientid> [TIMEOUT|ERROR]", "    Unblock the specified blocked client.",
	"TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
	"         [OPTIN] [OPTOUT] [NOLOOP]",
	"    Control server assisted client side caching.",
	"TRACKINGINFO", "    Report tracking status for the current connection.",
	"NO-EVICT (ON|OFF)", "    Protect current client connection from eviction.",
}
