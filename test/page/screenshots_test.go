package page

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/router"
)

var screenshots = flag.String("screenshots", "", "write pictures of the page into this `folder`")

// shoot writes a picture of the first pixels of a page.
func shoot(t *testing.T, name, url string, width, height int64, scheme string) {
	b := open(t, width, height, scheme)
	b.visit(url)
	b.await(`document.querySelector(".live.on") !== null`)
	time.Sleep(100 * time.Millisecond)
	picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(*screenshots, name), picture, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestScreenshots writes the pictures of docs/images.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("make screenshots runs this")
	}
	quiet := NewSample(3, Slots(3))
	shoot(t, "page.png", serve(t, quiet.Tame()), 1200, 900, "light")
	shoot(t, "page-users.png", serve(t, quiet.Tame())+"/#users", 1200, 900, "light")
	troubled := NewSample(4, router.Moving(Slots(3), Slots(4)))
	troubled.Change(trouble)
	troubled.Change(func(s *overview.State) {
		left, rate := int64(123_400), 4100
		s.Switch = &overview.Switch{Epoch: 4, From: "slots", To: "slots", State: "moving", Moved: 41_000,
			Left: &left, Rate: &rate}
	})
	shoot(t, "page-dark.png", serve(t, troubled.Tame())+"/?key=user:{42}:cart", 1200, 900, "dark")
	shoot(t, "page-ring.png", serve(t, NewSample(3, Ring(3)).Tame())+"/?key=user:{42}:cart#layout", 1200, 520, "light")
}

// trouble makes a node dead, and one slow.
func trouble(s *overview.State) {
	dead, slow := &s.Nodes[1], &s.Nodes[2]
	dead.State, dead.Reason, dead.Since = "down", "connect: connection refused", s.Time.Add(-8*time.Second)
	slow.Slow, slow.SlowReason, slow.InFlight = true, "231 requests wait, the others have 3", 231
	s.Problems = []overview.Problem{
		{Severity: overview.Bad, Node: dead.Name,
			Text: dead.Name + " (" + dead.Addr + ") cannot be reached: connection refused",
			Help: "Clients get errors for its keys. Look whether the server runs, and start it."},
		{Severity: overview.Warn, Node: slow.Name, Text: slow.Name + " is slower than the other nodes",
			Help: "Look at its slow log, its memory and its machine."},
	}
}
