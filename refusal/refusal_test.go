package refusal

import "testing"

func TestParseRedirect(t *testing.T) {
	const from = "10.0.0.9:6379"
	for _, c := range []struct {
		reply string
		want  Redirect
		ok    bool
	}{
		{"-MOVED 3999 10.0.0.1:6381\r\n", Redirect{Slot: 3999, To: "10.0.0.1:6381"}, true},
		{"-ASK 0 10.0.0.1:6381\r\n", Redirect{Ask: true, To: "10.0.0.1:6381"}, true},
		{"-MOVED 16383 :6381\r\n", Redirect{Slot: 16383, To: "10.0.0.9:6381"}, true},
		{"-MOVED 7 ?:6381\r\n", Redirect{Slot: 7, To: "10.0.0.9:6381"}, true},
		{"-MOVED 7 2001:db8::1:6381\r\n", Redirect{Slot: 7, To: "[2001:db8::1]:6381"}, true},
		{"-MOVED 7 [2001:db8::1]:6381\r\n", Redirect{Slot: 7, To: "[2001:db8::1]:6381"}, true},
		{"-MOVED 16384 10.0.0.1:6381\r\n", Redirect{}, false},
		{"-MOVED -1 10.0.0.1:6381\r\n", Redirect{}, false},
		{"-MOVED 7 10.0.0.1\r\n", Redirect{}, false},
		{"-MOVED 7 10.0.0.1:70000\r\n", Redirect{}, false},
		{"-MOVED 7 10.0.0.1:6381 more\r\n", Redirect{}, false},
		{"-MOVED\r\n", Redirect{}, false},
		{"-moved 7 10.0.0.1:6381\r\n", Redirect{}, false},
		{"+MOVED 7 10.0.0.1:6381\r\n", Redirect{}, false},
		{"-", Redirect{}, false},
		{"", Redirect{}, false},
	} {
		if got, ok := ParseRedirect([]byte(c.reply), from); got != c.want || ok != c.ok {
			t.Errorf("%q: %+v %v, want %+v %v", c.reply, got, ok, c.want, c.ok)
		}
	}
	if _, ok := ParseRedirect([]byte("-MOVED 7 :6381\r\n"), "no address"); ok {
		t.Error("a redirect without a host was followed to a node without one")
	}
}

func TestCannotServe(t *testing.T) {
	for reply, want := range map[string]bool{
		"-MOVED 1 a:1\r\n": true, "-ASK 1 a:1\r\n": true, "-CLUSTERDOWN The cluster is down\r\n": true,
		"-READONLY You can't write\r\n": true, "-MASTERDOWN Link\r\n": true, "-TRYAGAIN Multiple\r\n": true,
		"-LOADING Redis\r\n": true, "-ERR unknown\r\n": false, "-MOVEDX 1\r\n": false, "-BUSY Redis\r\n": false,
		"-\r\n": false, "+LOADING \r\n": false,
	} {
		if got := CannotServe([]byte(reply)); got != want {
			t.Errorf("%q: %v, want %v", reply, got, want)
		}
	}
	if got := string(Code([]byte("-NOSCRIPT No matching\r\n"))); got != "NOSCRIPT" {
		t.Errorf("the code is %q", got)
	}
	if got := string(Code([]byte("-NOSCRIPT\r\n"))); got != "NOSCRIPT" {
		t.Errorf("the code is %q", got)
	}
}

func TestLast(t *testing.T) {
	const down = "-CLUSTERDOWN The cluster is down\r\n"
	const tryAgain = "-TRYAGAIN Multiple keys request during rehashing of slot\r\n"
	var l Last
	for _, reply := range []string{":1\r\n", "-ERR no\r\n", "-MOVED 1 a:1\r\n", "-ASK 1 a:1\r\n"} {
		if l.Record(5, []byte(reply)) || len(l.Reply()) > 0 {
			t.Errorf("%q was taken for a refusal for now", reply)
		}
	}
	if l.OfAll(0) || l.Repeats(0, nil) {
		t.Error("a node that has refused nothing refuses all")
	}
	if !l.Record(10, []byte(down)) || string(l.Reply()) != down {
		t.Errorf("the last refusal is %q", l.Reply())
	}
	if !l.OfAll(10) || l.OfAll(11) {
		t.Error("a refusal at 10 was not at 10, or also later")
	}
	if !l.Repeats(10, []byte(down)) || l.Repeats(11, []byte(down)) || l.Repeats(10, []byte("-LOADING Redis\r\n")) {
		t.Error("only the same error, at 10, is that refusal")
	}
	if l.Record(20, []byte(tryAgain)); l.OfAll(0) || l.Repeats(0, []byte(tryAgain)) {
		t.Error("TRYAGAIN is about single keys")
	}
	if !l.Record(30, []byte("-CLUSTERDOWN Hash slot not served\r\n")) || l.OfAll(0) {
		t.Error("a slot without an owner is about single keys")
	}
}
