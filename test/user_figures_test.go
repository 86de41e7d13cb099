package test

import (
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/test/redistest"
)

var sampleOfUser = regexp.MustCompile(`(?m)^keyway_user_(\w+)\{user="([^"]*)"\} (\S+)$`)

// byUser returns the metrics that have only the label user, by metric and user. It fails the test unless all commands
// and all errors count for a user.
func byUser(t *testing.T, admin string) map[string]map[string]float64 {
	t.Helper()
	_, text := fetch(t, "http://"+admin+"/metrics")
	all, sums := map[string]map[string]float64{}, map[string]float64{}
	for _, m := range sampleOfUser.FindAllStringSubmatch(text, -1) {
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		if all[m[1]] == nil {
			all[m[1]] = map[string]float64{}
		}
		all[m[1]][m[2]] = value
		sums["keyway_user_"+m[1]] += value
	}
	for whole, part := range map[string]string{
		"keyway_commands_total": "keyway_user_commands_total", "keyway_clients": "keyway_user_clients",
		"keyway_command_errors_total": "keyway_user_command_errors_total",
	} {
		sum := 0.0
		for line := range strings.Lines(text) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			if of, _, _ := strings.Cut(name, "{"); of == whole {
				n, _ := strconv.ParseFloat(value[strings.LastIndexByte(value, ' ')+1:], 64)
				sum += n
			}
		}
		if sum != sums[part] {
			t.Errorf("%s is %v, and the sum over users %v", whole, sum, sums[part])
		}
	}
	return all
}

// TestFiguresByUser: commands, errors, latencies and clients count for the user who sent the commands, on all
// threads, with limits or without. A command that was under way when its client became another user counts for the
// user before. What blocks has no latency.
func TestFiguresByUser(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.Ring(redistest.Start(t).Addr)+limitedUsers("max_clients: 50")+
		"  - {name: batch, acl: \"on >pw ~* &* +@all\"}\n", "threads: 2\n")
	for i := range 8 {
		c := asApp(t, r.listen)
		key := fmt.Sprint("key:", i)
		c.MustDo("SET", key, "text")
		c.Expect("-ERR value is not an integer or out of range", "INCR", key)
	}
	c := redistest.Dial(t, r.listen)
	c.Expect("OK", "AUTH", "batch", "pw")
	c.MustDo("RPUSH", "list", "a")
	c.MustDo("BLPOP", "list", "0")
	for range 50 {
		c.Send("GET", "key:1")
	}
	c.Send("AUTH", "app", "pw")
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 51 {
		if _, err := c.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	of := byUser(t, r.admin)
	for _, want := range []struct {
		metric, user string
		value        float64
	}{
		{"clients", "app", 9}, {"clients", "batch", 0}, {"commands_total", "app", 8*3 + 1},
		{"commands_total", "batch", 3 + 50}, {"command_errors_total", "app", 8}, {"command_errors_total", "batch", 0},
		{"command_duration_seconds_count", "app", 8*3 + 1}, {"command_duration_seconds_count", "batch", 2 + 50},
	} {
		if got := of[want.metric][want.user]; got != want.value {
			t.Errorf("%s of %s is %v, want %v", want.metric, want.user, got, want.value)
		}
	}
	if _, any := of["in_flight"]["batch"]; any || len(of["in_flight"]) != 1 {
		t.Errorf("figures of limits for users without: %v", of["in_flight"])
	}
	redistest.Eventually(t, 20*time.Second, "the overview has the same figures", func() bool {
		for _, u := range stateAt(t, r.admin).Users {
			if u.Name == "app" {
				return u.Total == 25 && u.Failed == 8 && u.Clients == 9
			}
		}
		return false
	})
	for _, u := range fields(redistest.Ask(r.listen, "KEYWAY", "USERS").Elems) {
		if want := map[string]string{"app": "25", "batch": "53"}[u["user"]]; want != "" && u["commands"] != want {
			t.Errorf("KEYWAY USERS: %v", u)
		}
	}
}

// TestUsersAreBounded: 100 users and those with limits have figures of their own, the same ones on all threads. The
// others are counted together, and deleted users make room for others. No command is lost from the sum.
func TestUsersAreBounded(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.Ring(redistest.Start(t).Addr)+limitedUsers("max_clients: 50"), "threads: 2\n")
	admin := redistest.Dial(t, r.listen)
	const count, clients = 130, 6
	name := func(i int) string { return fmt.Sprint("user-", i) }
	for i := range count {
		admin.Expect("OK", "ACL", "SETUSER", name(i), "on", ">pw", "+@all")
	}
	for range clients {
		c := redistest.Dial(t, r.listen)
		for i := range count {
			c.Expect("OK", "AUTH", name(i), "pw")
			c.Expect("PONG", "PING")
		}
	}
	asApp(t, r.listen)
	of := byUser(t, r.admin)["commands_total"]
	if len(of) != metrics.MaxUsers+2 || of["app"] != 1 { // also the others, and app, which has limits
		t.Errorf("%d users have figures: %v", len(of), of)
	}
	own := 0
	for user, n := range of {
		if strings.HasPrefix(user, "user-") {
			if own++; n != 2*clients {
				t.Errorf("%s has %v commands", user, n)
			}
		}
	}
	if n := of[metrics.OtherUsers]; n != float64(2*clients*(count-own)) {
		t.Errorf("the others have %v commands", n)
	}
	gone := 0
	for user := range maps.Clone(of) {
		if strings.HasPrefix(user, "user-") && user != name(count-1) && gone < 10 {
			gone++
			admin.MustDo("ACL", "DELUSER", user)
		}
	}
	admin.Expect("OK", "ACL", "SETUSER", "late", "on", ">pw", "+@all")
	redistest.Dial(t, r.listen).Expect("OK", "AUTH", "late", "pw")
	after := byUser(t, r.admin)["commands_total"]
	delete(after, name(count-1)) // its clients are still there, and may have got the place of a deleted user
	delete(of, name(count-1))
	if after["late"] != 1 || len(after) != len(of)-gone+1 ||
		after[metrics.OtherUsers] != of[metrics.OtherUsers]+float64(2*clients*gone) {
		t.Errorf("after %d users were deleted: %v", gone, after)
	}
}

// TestFiguresOfNodesUsers: users of the nodes have figures, too.
func TestFiguresOfNodesUsers(t *testing.T) {
	t.Parallel()
	file := redistest.WriteFile(t, "users.acl", nodesUsers)
	k := serveNodes(t, redistest.Ring(redistest.Redis.Start(t, "--aclfile", file).Addr))
	app, admin := redistest.Dial(t, k.Addr), redistest.Dial(t, k.Addr)
	app.Expect("OK", "AUTH", "app", "pw")
	for range 5 {
		app.MustDo("SET", "app:1", "v")
	}
	admin.Expect("OK", "AUTH", "admin", "ad")
	all := map[string]map[string]string{}
	for _, u := range fields(admin.MustDo("KEYWAY", "USERS").Elems) {
		all[u["user"]] = u
	}
	if u := all["app"]; u["commands"] != "6" || u["clients"] != "1" {
		t.Errorf("KEYWAY USERS: %v", all)
	}
}
