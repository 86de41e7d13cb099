package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// hostsFile has names of addresses that hold for this machine only.
const hostsFile = "/etc/hosts"

// forOwnNames refuses requests to a loopback address if their Host is no name of this machine. A browser sends such a
// request for a site that has made its own name point to 127.0.0.1 (DNS rebinding), and lets the site read the answer.
// Pages that show no keys answer under any name, since probes and collectors use many.
func forOwnNames(h http.Handler) http.Handler {
	machine, _ := os.Hostname() // without a name only addresses count
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr); {
		case r.URL.Path == "/metrics", r.URL.Path == "/healthz", r.URL.Path == "/readyz":
		case local != nil && isLoopback(local.String()) && !isOwnName(r.Host, machine, hostsFile):
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(http.StatusMisdirectedRequest)
			fmt.Fprintf(w,
				"this address does not answer to the name %q; use its IP address, localhost, the name of the "+
					"machine or one of %s; a proxy must send one of these as Host\n", hostOf(r.Host), hostsFile)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// isLoopback reports whether an address is one of 127.0.0.0/8 or ::1.
func isLoopback(addr string) bool {
	at, err := netip.ParseAddrPort(addr)
	return err == nil && at.Addr().Unmap().IsLoopback()
}

// hostOf returns a Host header without its port.
func hostOf(header string) string {
	if host, _, err := net.SplitHostPort(header); err == nil {
		return host
	}
	return strings.Trim(header, "[]")
}

// isOwnName reports whether a Host header has an IP address or a name that nobody else can make point to this machine.
// Names without a dot, and those under localhost and internal, are not in the public DNS; the machine's owner writes
// the file hosts.
func isOwnName(header, machine, hosts string) bool {
	host := strings.ToLower(strings.TrimSuffix(hostOf(header), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return !strings.Contains(host, ".") || strings.EqualFold(host, machine) ||
		strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".internal") || isListed(host, hosts)
}

// isListed reports whether the file hosts has a name. Without the file, it has none.
func isListed(host, hosts string) bool {
	text, _ := os.ReadFile(hosts)
	for line := range strings.Lines(strings.ToLower(string(text))) {
		line, _, _ = strings.Cut(line, "#")
		if names := strings.Fields(line); len(names) > 1 && slices.Contains(names[1:], host) {
			return true
		}
	}
	return false
}
