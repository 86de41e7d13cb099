package switching

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/register"
)

// replicated waits until each connected replica has all that the node has executed so far. One that
// is promoted later has the records, too.
func (c *connection) replicated(ctx context.Context) error {
	target := int64(-1)
	var late []string
	failed := func(err error) error {
		if len(late) > 0 && !control.IsReply(err) { // ctx has ended
			return c.behind("the replica " + strings.Join(late, ", ") + " does not have its master's last records")
		}
		return c.failed("asking how far the replicas are", err)
	}
	for {
		text, err := c.Info(ctx, "replication").Result()
		if err != nil {
			return failed(err)
		}
		if role := info.Field([]byte(text), "role"); role != "master" {
			return c.node.refused("asking for INFO replication", "name its master", "its role is %s", role)
		}
		if target < 0 {
			target, _ = strconv.ParseInt(info.Field([]byte(text), "master_repl_offset"), 10, 64)
		}
		if late = lagging(text, target); len(late) == 0 {
			return nil
		}
		// WAIT asks replicas how far they are, which they say once a second otherwise. It does so
		// for writes of its own connection: here one that changes nothing. A node may refuse that.
		c.Do(ctx, "FUNCTION", "RESTORE", register.NoLibraries)
		if err := c.Do(ctx, "WAIT", len(late), 100).Err(); err != nil {
			return failed(err)
		}
		pause(ctx, time.Millisecond)
	}
}

// lagging returns the replicas in a text of INFO that have not reached an offset.
func lagging(text string, target int64) (late []string) {
	n, _ := strconv.Atoi(info.Field([]byte(text), "connected_slaves"))
	for i := range n {
		fields := map[string]string{}
		for field := range strings.SplitSeq(info.Field([]byte(text), fmt.Sprint("slave", i)), ",") {
			name, value, _ := strings.Cut(field, "=")
			fields[name] = value
		}
		offset, _ := strconv.ParseInt(fields["offset"], 10, 64)
		// Without a port, it is no server, but a tool that reads the stream.
		if port := fields["port"]; port != "0" && (fields["state"] != "online" || offset < target) {
			late = append(late, net.JoinHostPort(fields["ip"], port))
		}
	}
	return late
}
