package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/keyway-proxy/keyway/audit"
	"github.com/keyway-proxy/keyway/command"
)

// need says when a page asks for a proof: a token, or the name and the password of a user.
type need uint8

const (
	ifThereAreTokens need = iota
	always                // without token_file and users, the page is refused
	onlyTokens            // always, and no user may
)

// guarded is a handler of a page that acts, or that shows what only operators may see. right is the command that a user
// must be allowed to run. Pages of other sites cannot send such a request from an operator's browser, nor do they know
// the token.
func (o Options) guarded(h http.HandlerFunc, n need, right *command.Command) http.Handler {
	return new(http.CrossOriginProtection).Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var tokens []string
		if o.Tokens != nil {
			tokens = o.Tokens()
		}
		takesUsers := n != onlyTokens && o.takesUsers()
		switch _, _, namesUser := r.BasicAuth(); {
		case namesUser && takesUsers:
			o.forUser(w, r, h, right)
		case len(tokens) == 0 && n == ifThereAreTokens:
			h(w, r)
		case len(tokens) == 0 && !takesUsers:
			o.record(r, "", ErrStranger)
			http.Error(w, r.URL.Path+" needs a token: write admin: {listen: ADDRESS, token_file: FILE} into the "+
				"configuration, and the output of `openssl rand -hex 32` into that file", http.StatusForbidden)
		case !hasToken(tokens, r.Header.Get("Authorization")):
			o.record(r, "", ErrStranger)
			text := " needs the header Authorization: Bearer TOKEN, with the token of the configuration's " +
				"admin.token_file; keyway's commands take --token-file FILE"
			if takesUsers {
				text += ". Or send the name and the password of a user whose rules allow " + right.Upper() +
					", as curl -u NAME does"
			}
			needsProof(w, r.URL.Path+text)
		default:
			h(w, r)
		}
	}))
}

// ErrStranger is the error of a deed of somebody who has not proved to be an operator.
var ErrStranger = errors.New("no valid token or password")

// maxName bounds what is recorded of the name that a stranger has sent.
const maxName = 64

// record records what a request did, or was refused.
func (o Options) record(r *http.Request, result string, err error) {
	if o.Audit == nil {
		return
	}
	d := audit.Deed{
		Action: r.Method + " " + r.URL.Path, Via: audit.ViaAdmin, Addr: r.RemoteAddr, Result: result, Err: err,
		Pool: r.URL.Query().Get(PoolParam),
	}
	d.User = o.operator(r)
	if name, _, isNamed := r.BasicAuth(); isNamed && err == ErrStranger {
		d.User = name[:min(len(name), maxName)]
	}
	o.Audit(d)
}

// operator returns the name of the user who has sent a request, or else that in the certificate; empty: there is none.
func (o Options) operator(r *http.Request) string {
	if name, isUser := r.Context().Value(userKey{}).(string); isUser {
		return name
	}
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || o.OperatorName == nil {
		return ""
	}
	return o.OperatorName(r.TLS.VerifiedChains[0][0])
}

// hasToken reports whether a header Authorization has one of the tokens.
func hasToken(tokens []string, header string) bool {
	scheme, given, _ := strings.Cut(header, " ")
	return strings.EqualFold(scheme, "Bearer") && IsToken(tokens, strings.TrimSpace(given))
}

// IsToken reports whether a text is one of the tokens. How long that takes tells nothing about them but their number.
func IsToken(tokens []string, text string) bool {
	sum, found := sha256.Sum256([]byte(text)), 0
	for _, token := range tokens {
		of := sha256.Sum256([]byte(token))
		found |= subtle.ConstantTimeCompare(sum[:], of[:])
	}
	return found == 1
}

// serveProfiles serves Go's profiles, which show memory, at the paths that go tool pprof knows. Package pprof also
// registers them on http.DefaultServeMux, which keyway serves nowhere.
func serveProfiles(mux *http.ServeMux, o Options) {
	for path, h := range map[string]http.HandlerFunc{
		"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol,
		"trace": pprof.Trace,
	} {
		mux.Handle("/debug/pprof/"+path, o.guarded(func(w http.ResponseWriter, r *http.Request) {
			o.record(r, "", nil)
			h(w, r)
		}, onlyTokens, nil))
	}
}

// LogLevel reads and sets the level of the log.
type LogLevel struct {
	Get func() string
	// Set sets one of debug, info, warn and error, or for LevelOfFile that of the configuration. It returns what
	// to print.
	Set func(level string) (report string, err error)
}

// LevelOfFile is the parameter of /log-level for the level of the configuration.
const LevelOfFile = "file"

// serveLogLevel serves /log-level.
func serveLogLevel(mux *http.ServeMux, o Options) {
	mux.HandleFunc("GET /log-level", func(w http.ResponseWriter, _ *http.Request) {
		answerOrder(w, o.LogLevel.Get()+"\n", nil)
	})
	o.serveOrder(mux, "/log-level", always, changesLog, func(r *http.Request) (string, error) {
		return o.LogLevel.Set(r.URL.Query().Get("level"))
	})
}
