package clients

import (
	"fmt"
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
	b = fmt.Appendf(b, "id=%d addr=%s laddr=%s fd=0 name=%s age=%d idle=%d flags=%s db=%d "+
		"sub=%d psub=%d ssub=%d multi=%d watch=%d "+
		"qbuf=%d qbuf-free=%d argv-mem=%d multi-mem=%d obl=%d oll=%d omem=%d tot-mem=%d "+
		"events=%s cmd=%s user=%s redir=%d resp=%d",
		c.ID, c.Addr, c.LocalAddr, c.Name, c.Age/time.Second, c.Idle/time.Second, c.Flags, c.DB,
		c.Channels, c.Patterns, c.ShardChannels, c.Queued, c.Watched,
		max(c.Input, c.Asking), c.InputFree, c.Asking, c.TransactionBytes,
		c.FirstSize, c.OutputChunks, c.OutputBytes-c.FirstSize+c.Parked, c.Memory,
		events, last, c.User, c.Redirects, c.Version)
	if c.LibName != "" || c.LibVersion != "" {
		b = fmt.Appendf(b, " lib-name=%s lib-ver=%s", c.LibName, c.LibVersion)
	}
	return fmt.Appendf(b, " tot-net-in=%d tot-net-out=%d tot-cmds=%d\n", c.BytesIn, c.BytesOut, c.Commands)
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
