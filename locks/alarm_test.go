package locks

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// alarmNames returns the alarms for the log since the last call, and checks that they are also
// in the row of the key, if it has one.
func (s *scene) alarmNames() string {
	var names []string
	for _, a := range s.table.TakeAlarms() {
		names = append(names, a.Name)
	}
	return strings.Join(names, " ")
}

const (
	away    = "other@10.0.0.2:1"
	holder  = "app@10.0.0.1:1"
	pooled  = "app@10.0.0.1:2"
	release = "EVALSHA cf0e94b2e9ffc7e04395cf88f7583fc309985910 1 lock:1 "
	extend  = "EVALSHA a7aba3bc5d6e99b3003da8b9d80a63b9f4092ecf 1 lock:1 "
)

const renew = "EVALSHA " + redissonRenew + " 1 lock:1 30000 id"

func redissonWith(rest string) string { return "EVALSHA " + redissonAcquire + " 1 lock:1 " + rest }

// alarmCases are histories of locks, with the alarm that each raises.
var alarmCases = []struct {
	name string
	do   func(s *scene)
	want string
}{
	{"Redisson's watchdog stops", func(s *scene) {
		s.send(holder, redissonWith("30000 id"), "$-1")
		s.after(10*time.Second).send(holder, renew, "*1|:1")
		s.after(10*time.Second).send(holder, renew, "-CROSSSLOT no")
		s.after(8 * time.Second)
	}, "not-renewed"},
	{"the watchdog never starts", func(s *scene) {
		s.send(holder, redissonWith("30000 id"), "$-1")
		s.after(18 * time.Second)
	}, "not-renewed"},
	{"the watchdog works", func(s *scene) {
		s.send(holder, redissonWith("30000 id"), "$-1")
		for range 5 {
			s.after(10*time.Second).send(holder, renew, "*1|:1")
		}
	}, ""},
	{"a lease of its own has no watchdog", func(s *scene) {
		s.send(holder, redissonWith("20000 id"), "$-1")
		s.after(19 * time.Second)
	}, ""},
	{"a lock that was renewed before is not any more", func(s *scene) {
		s.send(holder, "SET lock:1 tok NX PX 10000", "+OK")
		s.after(3*time.Second).send(holder, extend+"tok 10000", ":1")
		s.after(6 * time.Second)
	}, "not-renewed"},
	{"the holder learns that it is not the holder", func(s *scene) {
		s.send(holder, "SET lock:1 tok NX PX 10000", "+OK")
		s.after(time.Second).send(holder, release+"tok", ":0")
	}, "lost"},
	{"the lease runs out, and another takes the lock", func(s *scene) {
		s.send(holder, "SET lock:1 tok NX PX 10000", "+OK")
		s.after(13*time.Second).send(away, "SET lock:1 tok2 NX PX 10000", "+OK")
		s.send(holder, extend+"tok 10000", ":0")
	}, "lost"},
	{"it is released twice", func(s *scene) {
		s.send(holder, "SET lock:1 tok NX PX 10000", "+OK")
		s.send(holder, release+"tok", ":1")
		s.send(holder, release+"tok", ":0")
	}, ""},
	{"a token that is always the same acquires again when the lease is over", func(s *scene) {
		s.send(holder, "SET lock:1 tok NX PX 5000", "+OK")
		s.after(5100*time.Millisecond).send(holder, "SET lock:1 tok NX PX 5000", "+OK")
		s.after(4 * time.Second)
	}, ""},
	{"two connections send one token at once", func(s *scene) {
		s.send(holder, "SET lock:1 tok NX PX 10000", "+OK")
		s.send(pooled, "SET lock:1 tok NX PX 10000", "$-1")
	}, "same-token"},
	{"others try with other tokens", func(s *scene) {
		s.send(holder, "SET lock:1 tok NX PX 10000", "+OK")
		s.send(pooled, "SET lock:1 tok2 NX PX 10000", "$-1")
	}, ""},
	{"SETNX alone", func(s *scene) {
		s.send(holder, "SETNX lock:1 1", ":1")
		s.after(3 * time.Second)
	}, "no-lease"},
	{"SETNX and a quick DEL", func(s *scene) {
		s.send(holder, "SETNX lock:1 1", ":1")
		s.send(holder, "DEL lock:1", ":1")
		s.after(3 * time.Second)
	}, ""},
	{"SETNX and EXPIRE", func(s *scene) {
		s.send(holder, "SETNX lock:1 1", ":1")
		s.send(holder, "EXPIRE lock:1 30", ":1")
		s.after(3 * time.Second)
	}, "second-step"},
	{"SET with a lease and EXPIRE", func(s *scene) {
		s.send(holder, "SET lock:1 tok NX EX 30", "+OK")
		s.send(holder, "EXPIRE lock:1 30", ":1")
	}, ""},
	{"another deletes it", func(s *scene) {
		s.send(holder, "SET lock:1 tok NX EX 30", "+OK")
		s.send(away, "DEL lock:1", ":1")
	}, "foreign-delete"},
	{"the holder deletes it over another connection", func(s *scene) {
		s.send(holder, "SET lock:1 tok NX EX 30", "+OK")
		s.send(pooled, "DEL lock:1", ":1")
	}, ""},
	{"a lease that is too short for how long it is held", func(s *scene) {
		for range usual + 1 {
			s.send(holder, "SET lock:1 tok NX PX 60000", "+OK")
			s.after(20*time.Second).send(holder, release+"tok", ":1")
		}
		s.send(holder, "SET lock:1 tok NX PX 10000", "+OK")
	}, "short-lease"},
	{"a lease that is long enough", func(s *scene) {
		for range usual + 1 {
			s.send(holder, "SET lock:1 tok NX PX 60000", "+OK")
			s.after(2*time.Second).send(holder, release+"tok", ":1")
		}
		s.send(holder, "SET lock:1 tok NX PX 10000", "+OK")
	}, ""},
	{"a lease below twice the request timeout", func(s *scene) {
		s.send(holder, "SET lock:1 tok NX PX 3999", "+OK")
	}, "unsafe-lease"},
	{"a lease below that and a failover", func(s *scene) {
		s.table.NodeAway(int64(5 * time.Second))
		s.send(holder, "SET lock:1 tok NX PX 8000", "+OK")
	}, "unsafe-lease"},
	{"a lease of twice the request timeout", func(s *scene) {
		s.send(holder, "SET lock:1 tok NX PX 4000", "+OK")
	}, ""},
	{"a space is missing behind redis-cli --eval", func(s *scene) {
		s.send(holder, "EVALSHA cf0e94b2e9ffc7e04395cf88f7583fc309985910 1 lock:1, tok", ":0")
	}, "comma-key"},
	{"a comma elsewhere", func(s *scene) {
		s.send(holder, "EVALSHA cf0e94b2e9ffc7e04395cf88f7583fc309985910 1 lock:1,2 tok", ":0")
	}, ""},
}

// TestAlarms: each alarm is raised by what it is about, and not by what resembles that.
func TestAlarms(t *testing.T) {
	for _, c := range alarmCases {
		s := newScene(t, Config{Size: 100, Patterns: []string{"lock:*"}, SafeLease: int64(4 * time.Second)})
		c.do(s)
		if got := s.alarmNames(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if r := s.row("lock:1"); r != nil && strings.Join(r.Alarms, " ") != c.want {
			t.Errorf("%s: the row has %q, want %q", c.name, r.Alarms, c.want)
		}
		c.do(s)
		if got := s.alarmNames(); got != "" {
			t.Errorf("%s: again within the hour: %q", c.name, got)
		}
	}
}

// Each alarm is logged once an hour for each pattern.
func TestAlarmsOncePerPatternAndHour(t *testing.T) {
	s := newScene(t, Config{Size: 100, Patterns: []string{"a:*", "b:*"}})
	for range 3 {
		for i := range 5 {
			s.send(holder, fmt.Sprintf("SET a:%d tok NX EX 30", i), "+OK")
			s.send(away, fmt.Sprintf("DEL a:%d", i), ":1")
		}
	}
	s.send(holder, "SET b:1 tok NX EX 30", "+OK")
	s.send(away, "DEL b:1", ":1")
	alarms := s.table.TakeAlarms()
	if len(alarms) != 2 || alarms[0].Pattern != "a:*" || alarms[0].Key != "a:0" || alarms[1].Pattern != "b:*" {
		t.Errorf("%v", alarms)
	}
	s.now += int64(time.Hour)
	s.send(holder, "SET a:1 tok NX EX 30", "+OK")
	s.send(away, "DEL a:1", ":1")
	if got := s.alarmNames(); got != "foreign-delete" {
		t.Errorf("an hour later: %q", got)
	}
}

// The log has the numbers that an alarm is about, so that an operator sees how far off they are.
func TestAlarmsSayTheNumbers(t *testing.T) {
	s := newScene(t, Config{Size: 100, Patterns: []string{"lock:*"}, SafeLease: int64(12 * time.Second)})
	s.table.NodeAway(int64(3 * time.Second))
	s.send(holder, "SET lock:1 tok NX PX 14500", "+OK")
	s.after(time.Second).send(holder, extend+"tok 10000", ":1")
	s.after(6 * time.Second)
	for range usual {
		s.send(holder, "SET lock:2 tok NX PX 60000", "+OK")
		s.after(20*time.Second).send(holder, "EVALSHA cf0e94b2e9ffc7e04395cf88f7583fc309985910 1 lock:2 tok", ":1")
	}
	s.send(holder, "SET lock:2 tok NX PX 15500", "+OK")
	want := []string{"its lease of 14.5s is shorter than 15s, which is twice", "node was away (3s)",
		"has not renewed it for 6s, more than half its lease of 10s",
		"its lease of 15.5s is shorter than it is usually held (20"}
	got := fmt.Sprint(s.table.TakeAlarms())
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%q is not in %s", w, got)
		}
	}
}
