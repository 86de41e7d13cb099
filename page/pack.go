package page

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/klauspost/compress/flate"
)

// event is a server-sent event as it is sent. Compressed it takes a seventh: with 300 nodes an event has half a
// megabyte, most of which repeats.
type event struct {
	plain  []byte
	packed []byte // whole blocks of a deflate stream, which refer to no block before
}

// gzipHead begins a stream of gzip (RFC 1952). The blocks of events follow, whichever these are. The stream has no end:
// it ends with the connection.
var gzipHead = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// hello is sent first.
var hello = new(packer).event([]byte("retry: 1000\n\n"))

// packer compresses each event once, however many browsers get it.
type packer struct{ to *flate.Writer }

// event returns an event of that text.
func (p *packer) event(text []byte) event {
	var out bytes.Buffer
	if p.to == nil {
		p.to, _ = flate.NewWriter(nil, flate.BestSpeed) // it fails at unknown levels only
	}
	p.to.Reset(&out)
	// A comment of random length hides from those who see only the length of an event how well a key of theirs
	// compressed, thus whether it stands elsewhere in the event, too (BREACH).
	_, _ = p.to.Write(jitter()) // a buffer takes everything
	_, _ = p.to.Write(text)
	_ = p.to.Flush()
	return event{text, out.Bytes()}
}

// jitter returns a comment of up to 64 random characters.
func jitter() []byte {
	const most = 32
	var random [most + 1]byte
	_, _ = rand.Read(random[:]) // it never fails
	length := int(random[most]) % (most + 1)
	return append(hex.AppendEncode([]byte(":"), random[:length]), '\n')
}

// acceptsGzip reports whether a browser takes an answer that is compressed with gzip.
func acceptsGzip(r *http.Request) bool {
	for accepted := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(strings.ReplaceAll(accepted, " ", ""), ";")
		if strings.EqualFold(name, "gzip") {
			return !strings.HasPrefix(quality, "q=0") || strings.ContainsAny(quality[3:], "123456789")
		}
	}
	return false
}
