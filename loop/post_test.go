package loop

import (
	"testing"
	"time"
)

// idler is an owner without sockets.
type idler struct{}

func (idler) Begin(time.Duration, time.Time)     {}
func (idler) BeginTurn(time.Duration, time.Time) {}
func (idler) EndTurn()                           {}
func (idler) Lull()                              {}
func (idler) Pause() time.Duration               { return time.Hour }
func (idler) End()                               {}

// BenchmarkPost is a message to another thread, with what the sender does: to one that sleeps, and to one that is busy.
func BenchmarkPost(b *testing.B) {
	l, err := New()
	if err != nil {
		b.Fatal(err)
	}
	go l.Join(idler{})()
	served := make(chan struct{}, 1)
	tell := func() { served <- struct{}{} }
	b.Run("asleep", func(b *testing.B) {
		for b.Loop() {
			l.Post(tell)
			<-served
		}
	})
	b.Run("busy", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			l.Post(func() {})
			if n%1000 == 0 {
				l.Post(tell)
				<-served
			}
		}
	})
	l.Stop()
	if err := l.Wait(); err != nil {
		b.Fatal(err)
	}
}
