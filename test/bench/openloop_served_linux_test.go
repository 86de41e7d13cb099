package bench

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"
)

// TestOpenLoopOmitsNothing: a server that stops for a while delays each request that was due meanwhile, and those
// that come later are still sent. A load that waits for replies before it sends would count one slow request.
func TestOpenLoopOmitsNothing(t *testing.T) {
	t.Parallel()
	const (
		stopsAt = 100 // the number of the request
		stops   = 300 * time.Millisecond
	)
	due := scheduleOf(1000, 600*time.Millisecond, 1)
	o := connectOpen(t, []string{delayingServer(t, stopsAt, stops)}, 1, getKey)
	defer o.close()
	o.run(due)
	if len(o.latency) != len(due) || len(o.late) != len(due) {
		t.Fatalf("%d of %d requests were sent, and %d answered", len(o.late), len(due), len(o.latency))
	}
	answers := due[stopsAt] + stops // not before that
	waited := 0
	for i := stopsAt; i < len(due) && due[i] < answers; i++ {
		if waited++; o.latency[i] < answers-due[i] {
			t.Fatalf("request %d was due %s before the server went on, and has waited %s",
				i, answers-due[i], o.latency[i])
		}
	}
	if waited < 200 {
		t.Errorf("only %d requests were due while the server stopped", waited)
	}
	if p := percentile(o.latency, 0.99); p < stops.Seconds()*1e6/2 {
		t.Errorf("the p99 is %.0f us", p)
	}
}

// TestOpenLoopOverConnections: connections share the requests, and each reply belongs to its request.
func TestOpenLoopOverConnections(t *testing.T) {
	t.Parallel()
	addrs := []string{delayingServer(t, -1, 0), delayingServer(t, -1, 0)}
	due := scheduleOf(20_000, 100*time.Millisecond, 2)
	o := connectOpen(t, addrs, 10, getKey)
	defer o.close()
	for range 2 {
		o.run(due)
		if len(o.latency) != len(due) || len(o.late) != len(due) {
			t.Fatalf("%d of %d requests were sent, and %d answered", len(o.late), len(due), len(o.latency))
		}
	}
	for _, c := range o.conns {
		if len(c.waiting)+len(c.unsent)+len(c.out)+c.partial > 0 {
			t.Errorf("a connection has %d requests left", len(c.waiting)+len(c.unsent))
		}
	}
	for i := range due {
		if o.latency[i] < 0 || o.late[i] < 0 {
			t.Fatalf("request %d: sent %s after it was due, answered after %s", i, o.late[i], o.latency[i])
		}
	}
}

// TestSchedule: so many requests are due in each part of the window as the rate says, at random times.
func TestSchedule(t *testing.T) {
	t.Parallel()
	const rate, seconds = 10_000, 10
	due := scheduleOf(rate, seconds*time.Second, 3)
	var halves [2]int
	apart := 0 // those that are further apart than the mean
	for i, at := range due {
		halves[int(at.Seconds()/seconds*2)]++
		if i > 0 && (at-due[i-1]).Seconds() > 1.0/rate {
			apart++
		}
	}
	const expected, deviation = rate * seconds / 2, 224 // the root of it
	for i, n := range halves {
		if n < expected-5*deviation || n > expected+5*deviation {
			t.Errorf("half %d of the window has %d requests", i, n)
		}
	}
	if share := float64(apart) / float64(len(due)); share < 0.36 || share > 0.376 { // 1/e, the deviation is 0.0015
		t.Errorf("%.3f of the gaps are longer than the mean", share)
	}
}

// delayingServer answers GETs. It stops once, when a connection's request of this number comes.
func delayingServer(t *testing.T, number int, stops time.Duration) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	reply := append([]byte("$64\r\n"), make([]byte, scriptedValue)...)
	reply = append(reply, "\r\n"...)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in, frame := bufio.NewReader(c), make([]byte, len(getKey.frame))
				for i := 0; ; i++ {
					if _, err := io.ReadFull(in, frame); err != nil {
						return
					}
					if i == number {
						time.Sleep(stops)
					}
					if _, err := c.Write(reply); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}
