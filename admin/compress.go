package admin

import (
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzhttp"
)

// compressed compresses what people and scripts read, for those who accept that. The page of a pool with 300 nodes is
// long, and most of it repeats. /metrics, profiles and the page's events compress themselves.
func compressed(h http.Handler) http.Handler {
	// Answers may contain the key that a request asks for. Jitter hides from those who see only the length of an answer
	// how well that key compressed, thus whether it stands elsewhere in the answer, too (BREACH).
	wrap, err := gzhttp.NewWrapper(gzhttp.EnableZstd(false), gzhttp.RandomJitter(32, 0, false))
	if err != nil {
		panic(err) // the options are constants
	}
	shorter := wrap(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if r.Method != http.MethodGet || path == LivePath || path == "/metrics" || strings.HasPrefix(path, "/debug/") {
			h.ServeHTTP(w, r)
			return
		}
		shorter(w, r)
	})
}
