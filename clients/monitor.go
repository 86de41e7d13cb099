package clients

import (
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// IsShown reports whether MONITOR shows a command: it shows no operators' commands (server.c,
// call: CMD_ADMIN and CMD_SKIP_MONITOR). cmd is nil if the table lacks the command.
func IsShown(cmd *command.Command) bool { return cmd == nil || !cmd.Has(command.Admin) }

// AppendMonitored appends the line in which MONITOR shows a command, with its secrets
// redacted.
func AppendMonitored(b []byte, at time.Time, db uint16, addr string, cmd *command.Command, a command.Args) []byte {
	b = append(b, '+')
	b = strconv.AppendInt(b, at.Unix(), 10)
	micros := strconv.Itoa(1e6 + at.Nanosecond()/1000)
	b = append(append(b, '.'), micros[1:]...)
	b = append(b, " ["...)
	b = strconv.AppendInt(b, int64(db), 10)
	b = append(b, ' ')
	b = append(b, addr...)
	b = append(b, ']')
	for i := range a.Len() {
		arg := a.Arg(i)
		if cmd != nil && cmd.IsSecret(a, i) {
			arg = []byte(command.Redacted)
		}
		b = resp.AppendQuoted(append(b, ' '), arg)
	}
	return append(b, "\r\n"...)
}
