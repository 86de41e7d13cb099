package retry

import (
	"testing"
	"time"
)

const ms = int64(time.Millisecond)

func idle() int { return 0 }

func TestBackoff(t *testing.T) {
	last := int64(0)
	for tries := range uint8(255) {
		b := Backoff(tries)
		if b < last || b > MaxBackoff || b < 5*ms {
			t.Fatalf("after %d tries: %v", tries, time.Duration(b))
		}
		last = b
	}
	if last != MaxBackoff {
		t.Errorf("the longest back-off is %v", time.Duration(last))
	}
}

// While a node refuses for a short time, all calls wait. When that lasts, only as many as the budget.
func TestOnlyProbesWaitForLong(t *testing.T) {
	var n Node
	const limit = int64(time.Second)
	wait := func(now int64) bool {
		may := n.MayWait(now, now+limit, limit, 10, idle)
		if may {
			n.Add(10)
		}
		return may
	}
	start := int64(time.Hour)
	for range 1000 {
		if !wait(start) {
			t.Fatal("a call did not wait for the end of a short refusal")
		}
	}
	now := start
	for ; now <= start+limit; now += 150 * ms {
		if !wait(now) {
			t.Fatalf("a call did not wait %v after the first refusal", time.Duration(now-start))
		}
	}
	if now += ms; n.Waiting() < 16 || wait(now) {
		t.Fatal("a call waits though the node refuses for long")
	}
	for n.Waiting() > 15 {
		n.Remove(10)
	}
	if !wait(now) || wait(now) {
		t.Error("the node refuses for long, so 16 calls may wait")
	}
	if !n.MayWait(now, now+limit, limit, 10, func() int { return 200 }) {
		t.Error("more may wait for a node that has many calls in flight")
	}
	n.Served(now)
	if !wait(now) {
		t.Error("a node that has answered a retry counts as refusing for long")
	}
	if now += limit / 2; !wait(now) {
		t.Error("refusals after a time without any do not begin anew")
	}
}

func TestTimeAndMemoryBoundTheWait(t *testing.T) {
	var n Node
	now := int64(time.Hour)
	if n.MayWait(now, now+5*ms, ms, 10, idle) || !n.MayWait(now, now+6*ms, ms, 10, idle) {
		t.Error("a call waits if it has more time than the shortest back-off")
	}
	n.Add(64 << 20)
	if n.MayWait(now, now+int64(time.Second), int64(time.Second), 1, idle) || n.Memory() != 64<<20 {
		t.Error("waiting calls take more than their memory")
	}
	n.Remove(64 << 20)
	if !n.MayWait(now, now+int64(time.Second), int64(time.Second), 1, idle) || n.Memory() != 0 {
		t.Error("the memory of a call that waits no more was not given back")
	}
}

func TestBudget(t *testing.T) {
	var n Node
	spend := func() (k int) {
		for n.Spend() {
			k++
		}
		return k
	}
	if spend() != 0 {
		t.Error("there is a budget before the first tick")
	}
	for inFlight, want := range map[int]int{0: 16, 80: 16, 100: 20, 1000: 200} {
		if n.Refill(inFlight); spend() != want {
			t.Errorf("with %d calls in flight, the budget is not %d", inFlight, want)
		}
	}
	for range 500 {
		n.Add(1)
	}
	if n.Refill(0); spend() != 100 {
		t.Error("a fifth of the waiting calls goes per tick")
	}
}
