package quota_test

import (
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/quota"
)

const (
	second = int64(time.Second)
	ms     = int64(time.Millisecond)
)

// refuseHandover is for threads of which no two wait.
func refuseHandover(t *testing.T) func(*quota.Share, int, int64) {
	return func(_ *quota.Share, thread int, commands int64) {
		t.Errorf("thread %d got %d commands", thread, commands)
	}
}

// TestCommandsInTime: whatever a user sends, in each time it may run the commands of that time and
// those of a burst, and if it always has more, it runs all of them.
func TestCommandsInTime(t *testing.T) {
	for _, l := range []quota.Limits{
		{Commands: 1, Burst: time.Second}, {Commands: 3, Burst: time.Millisecond},
		{Commands: 1000, Burst: 100 * time.Millisecond}, {Commands: 333_333, Burst: 10 * time.Millisecond},
		{Commands: 1_000_000, Burst: time.Second},
	} {
		account, end := new(quota.Account), 10*second
		shares := quota.NewShares(0, refuseHandover(t))
		s := shares.Open("u", account, &l)
		n := int64(0)
		for now := int64(0); now < end; now += ms {
			for range 2 * max(1, l.Commands/1000) {
				if lack, at := s.Refill(now); lack != quota.Nothing {
					if lack != quota.OfCommands || at <= now || at > now+second/l.Commands+1 {
						t.Fatalf("%+v: at %d lacks %d until %d", l, now, lack, at)
					}
					break
				}
				s.Spend(1)
				n++
			}
			shares.Settle(now)
		}
		burst := max(1, l.Commands*int64(l.Burst)/second)
		most, least := l.Commands*end/second+burst, l.Commands*(end-2*ms)/second
		if sends := 2 * max(1, l.Commands/1000) * end / ms; sends < most {
			least = sends // it has not sent more
		}
		if n < least || n > most {
			t.Errorf("%+v: %d commands in 10 s, want %d to %d", l, n, least, most)
		}
	}
}

// TestNothingIsSavedBeyondTheBurst: a user who sent nothing for an hour may not use that hour.
func TestNothingIsSavedBeyondTheBurst(t *testing.T) {
	shares := quota.NewShares(0, refuseHandover(t))
	s := shares.Open("u", new(quota.Account), &quota.Limits{Commands: 1000, Burst: 100 * time.Millisecond})
	n, now := 0, 3600*second
	for lack := quota.Nothing; lack == quota.Nothing; lack, _ = s.Refill(now) {
		if s.IsReady() {
			s.Spend(10)
			n++
		}
	}
	if n != 100 {
		t.Errorf("%d commands at once, want 100", n)
	}
}

// TestThreadsShareTheRate: threads whose clients all wait get the same, and together what the user
// may use, also if one thread always asks first.
func TestThreadsShareTheRate(t *testing.T) {
	for _, rate := range []int64{2, 100, 20_000} {
		account, l := new(quota.Account), &quota.Limits{Commands: rate, Burst: 10 * time.Millisecond}
		var shares [3]*quota.Shares
		var of [3]*quota.Share
		for i := range of {
			shares[i] = quota.NewShares(100*i, refuseHandover(t))
			of[i] = shares[i].Open("u", account, l)
			of[i].Await(quota.OfCommands)
		}
		var n [3]int64
		for now := second; now < 31*second; now += ms {
			for i, s := range of {
				for lack, _ := s.Refill(now); lack == quota.Nothing; lack, _ = s.Refill(now) {
					s.Spend(1)
					n[i]++
				}
				shares[i].Settle(now)
			}
		}
		if all := n[0] + n[1] + n[2]; all < rate*30*95/100 || all > rate*30+rate/100+1 {
			t.Errorf("%d/s: %d commands in 30 s", rate, all)
		}
		for _, one := range n {
			if one < rate*30/3*6/10 {
				t.Errorf("%d/s: the threads ran %d commands", rate, n)
				break
			}
		}
	}
}

// TestBytesAreOwed: a reply may be larger than the rate allows. The user pays for it later, but not
// for ever.
func TestBytesAreOwed(t *testing.T) {
	shares := quota.NewShares(0, refuseHandover(t))
	s := shares.Open("u", new(quota.Account), &quota.Limits{Bytes: 1 << 20, Burst: 100 * time.Millisecond})
	readyAfter := func(now int64) int64 {
		for at := now; ; at += ms {
			lack, _ := s.Refill(at)
			shares.Settle(at)
			if lack == quota.Nothing {
				return at - now
			}
		}
	}
	now := second
	if readyAfter(now) != 0 {
		t.Error("the first command waits")
	}
	s.SpendBytes(4 << 20)
	shares.Settle(now)
	if got := readyAfter(now); got < 3800*ms || got > 4000*ms {
		t.Errorf("4 MB take %s", time.Duration(got))
	}
	now += 20 * second
	s.SpendBytes(1 << 40)
	shares.Settle(now)
	if got := readyAfter(now); got < 9*second || got > 10*second+ms {
		t.Errorf("1 TB takes %s", time.Duration(got))
	}
}

// TestClientsAreCounted: of many that enter at once on several threads, just so many are let in.
func TestClientsAreCounted(t *testing.T) {
	account, l := new(quota.Account), &quota.Limits{Clients: 100}
	var wg sync.WaitGroup
	for i := range 4 {
		s := quota.NewShares(i, refuseHandover(t)).Open("u", account, l)
		wg.Go(func() {
			for range 1000 {
				if s.Enter() && rand.N(2) == 0 {
					s.Leave()
				}
				if n := account.Clients(); n > 100 {
					t.Errorf("%d clients", n)
				}
			}
			for s.Clients > 0 {
				s.Leave()
			}
			if s.Excluded == 0 {
				t.Error("no client was refused")
			}
		})
	}
	wg.Wait()
	if n := account.Clients(); n != 0 {
		t.Errorf("%d clients are left", n)
	}
}

// grant is what a thread hands over to another one.
type grant struct {
	of *quota.Share
	n  int64
}

// worker is a thread whose clients always have more commands than may be under way.
type worker struct {
	*quota.Shares
	of      *quota.Share
	mail    chan grant
	running int64
	begun   int64
}

// workers returns threads that share an account.
func workers(n, limit int) (*quota.Account, []*worker) {
	account, all := new(quota.Account), make([]*worker, n)
	l := &quota.Limits{InFlight: limit}
	for i := range all {
		all[i] = &worker{mail: make(chan grant, 1<<16)}
		all[i].Shares = quota.NewShares(i, func(of *quota.Share, thread int, commands int64) {
			all[thread].mail <- grant{of, commands}
		})
		all[i].of = all[i].Open("u", account, l)
	}
	return account, all
}

// turn is a turn of the thread: ended commands of it end, and others begin as far as they may.
func (w *worker) turn(ended int64, hasMore bool) {
	for len(w.mail) > 0 {
		w.of.Grant((<-w.mail).n)
	}
	for range min(ended, w.running) {
		w.of.End()
		w.running--
	}
	w.of.Await(quota.Nothing)
	for range 1000 {
		if !hasMore {
			break
		}
		if lack, _ := w.of.Refill(0); lack != quota.Nothing {
			w.of.Await(lack)
			if lack, _ = w.of.Refill(0); lack != quota.Nothing {
				break
			}
			w.of.Await(quota.Nothing)
		}
		w.of.Begin()
		w.running++
		w.begun++
	}
	w.Settle(0)
}

// TestCommandsUnderWayAreBounded: threads that begin and end commands at the same time never have
// more under way than the user may, and none is lost.
func TestCommandsUnderWayAreBounded(t *testing.T) {
	for _, limit := range []int{1, 3, 1000} {
		account, all := workers(4, limit)
		var wg sync.WaitGroup
		for _, w := range all {
			wg.Go(func() {
				for range 3000 {
					runtime.Gosched() // threads take turns even on one processor
					w.turn(rand.Int64N(5), rand.N(4) > 0)
					if n := account.InFlight(); n > limit || n < 0 {
						t.Errorf("%d commands under way, and %d may be", n, limit)
					}
				}
			})
		}
		wg.Wait()
		for range 10 { // what is handed over last arrives
			for _, w := range all {
				w.turn(math.MaxInt64, false)
			}
		}
		if n := account.InFlight(); n != 0 {
			t.Errorf("limit %d: %d commands are under way for ever", limit, n)
		}
	}
}

// TestThreadsTakeTurns: a thread whose commands end early does not keep the others from beginning
// theirs.
func TestThreadsTakeTurns(t *testing.T) {
	for _, limit := range []int{1, 2, 7, 50} {
		_, all := workers(3, limit)
		for range 3000 {
			for _, w := range all {
				w.turn(math.MaxInt64, true)
				w.turn(0, true)
			}
		}
		sum := all[0].begun + all[1].begun + all[2].begun
		for _, w := range all {
			if w.begun < sum/3*6/10 {
				t.Errorf("limit %d: the threads began %d, %d and %d commands", limit,
					all[0].begun, all[1].begun, all[2].begun)
				break
			}
		}
	}
}

// TestLimitsChange: other limits hold at once, whatever was taken before.
func TestLimitsChange(t *testing.T) {
	account, all := workers(1, 10)
	w := all[0]
	w.turn(0, true)
	w.of.SetLimits(0, &quota.Limits{InFlight: 4})
	w.turn(7, true)
	if w.running != 4 || account.InFlight() != 4 {
		t.Errorf("%d commands under way, %d counted", w.running, account.InFlight())
	}
	w.of.SetLimits(0, &quota.Limits{Clients: 1})
	if lack, _ := w.of.Refill(0); lack != quota.Nothing || w.of.BoundsInFlight() {
		t.Errorf("lacks %d", lack)
	}
	for range w.running {
		w.of.End()
	}
	w.Settle(0)
	if account.InFlight() != 0 {
		t.Errorf("%d are left", account.InFlight())
	}
	w.of.SetLimits(0, &quota.Limits{Commands: 5, Burst: time.Second})
	if lack, _ := w.of.Refill(second); lack != quota.Nothing {
		t.Errorf("lacks %d", lack)
	}
}
