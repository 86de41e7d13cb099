package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/plan"
)

// pageOf returns a page of the admin address with parameters, for a pool; empty: the only one.
func pageOf(page, pool string, params url.Values) string {
	if pool != "" {
		params = maps.Clone(params)
		if params == nil {
			params = url.Values{}
		}
		params.Set(admin.PoolParam, pool)
	}
	if len(params) == 0 {
		return page
	}
	return page + "?" + params.Encode()
}

// access is how a command asks at admin addresses. Flags win over what the configuration says.
type access struct {
	tokenFile, ca, cert, key string // flags
	insecure                 bool
	user, passwordFile       string // who acts; an empty user acts with a token

	of *config.Config // the configuration of the keyway that is asked; nil: it is not known
}

// tlsFlags adds the flags for addresses that speak TLS.
func (a *access) tlsFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.ca, "cacert", "",
		"a `file` with the authorities that sign keyway's certificate, if --admin is https://...")
	f.StringVar(&a.cert, "cert", "", "a `file` with a certificate to show to keyway")
	f.StringVar(&a.key, "key", "", "a `file` with the private key of --cert")
	f.BoolVar(&a.insecure, "insecure", false, "accept any certificate; no token or password is sent then")
}

// flags adds all flags.
func (a *access) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.tokenFile, "token-file", "",
		"a `file` with the token of the running keyway, if not the admin.token_file of the file")
	cmd.Flags().StringVar(&a.user, "user", "",
		"act as this `user` of the running keyway, not with a token; the password is in "+passwordVariable)
	cmd.Flags().StringVar(&a.passwordFile, "password-file", "",
		"a `file` with the password of --user, if not in "+passwordVariable)
	a.tlsFlags(cmd)
}

// passwordVariable is the environment variable with the password of --user. A flag would show it to all processes.
const passwordVariable = "KEYWAY_PASSWORD"

// password returns the password of the user who acts.
func (a *access) password() (string, error) {
	if a.passwordFile == "" {
		if password := os.Getenv(passwordVariable); password != "" {
			return password, nil
		}
		return "", fmt.Errorf("--user %s needs a password; name a file that has it with --password-file, or put it "+
			"into the environment variable %s", a.user, passwordVariable)
	}
	text, err := os.ReadFile(a.passwordFile)
	if err != nil {
		return "", fmt.Errorf("--password-file: %w", err)
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" || strings.ContainsAny(password, "\r\n") {
		return "", fmt.Errorf("--password-file: the file %q must have one line, the password", a.passwordFile)
	}
	return password, nil
}

// authorize proves to keyway who acts: the user that is named, or else whoever has the token.
func (a *access) authorize(r *http.Request) error {
	switch {
	case a.user != "" && a.tokenFile != "":
		return errors.New("--user and --token-file: leave out one of them")
	case a.user == "" && a.passwordFile != "":
		return errors.New("--password-file: name the user with --user")
	case a.insecure:
		return nil
	case a.user != "":
		password, err := a.password()
		r.SetBasicAuth(a.user, password)
		return err
	}
	token, err := a.token()
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return err
}

// token returns the token to act with; empty: none is known.
func (a *access) token() (string, error) {
	switch {
	case a.tokenFile != "":
		text, err := os.ReadFile(a.tokenFile)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		tokens, err := config.ParseTokens(text)
		if err != nil {
			return "", fmt.Errorf("--token-file: the file %q %w", a.tokenFile, err)
		}
		return tokens[0], nil
	case a.of != nil && len(a.of.Admin.Tokens()) > 0:
		return a.of.Admin.Tokens()[0], nil
	}
	return "", nil
}

// url returns the URL of a page of the keyway with that admin address.
func (a *access) url(addr, page string) string {
	switch {
	case strings.HasPrefix(addr, "http://"), strings.HasPrefix(addr, "https://"):
		return strings.TrimSuffix(addr, "/") + page
	case a.of != nil && a.of.Admin.TLS != nil:
		return "https://" + addr + page
	}
	return "http://" + addr + page
}

// settings returns the settings for TLS.
func (a *access) settings() (s *tls.Config, err error) {
	if a.ca == "" && !a.insecure && a.of != nil {
		if s, err = a.of.Admin.Client(a.of); err != nil {
			return nil, err
		}
	}
	if s == nil {
		s = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: a.insecure}
	}
	if a.ca != "" {
		text, err := os.ReadFile(a.ca)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		if s.RootCAs = x509.NewCertPool(); !s.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--cacert: %s has no certificate in PEM form", a.ca)
		}
	}
	if a.cert != "" || a.key != "" {
		pair, err := tls.LoadX509KeyPair(a.cert, a.key)
		if err != nil {
			return nil, fmt.Errorf("--cert and --key: %w", err)
		}
		s.Certificates = []tls.Certificate{pair}
	}
	return s, nil
}

// call sends a request to the admin address of a keyway. Its error is a failure to get any answer.
func (a *access) call(
	ctx context.Context, method, addr, page string, body []byte,
) (status int, text string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, a.url(addr, page), bytes.NewReader(body))
	if err != nil {
		return 0, "", fmt.Errorf("--admin %s: write HOST:PORT, or https://HOST:PORT", addr)
	}
	if method != http.MethodGet {
		if err := a.authorize(req); err != nil {
			return 0, "", err
		}
	}
	settings, err := a.settings()
	if err != nil {
		return 0, "", err
	}
	// Without the environment's HTTP proxy.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: settings}}
	reply, err := client.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("asking keyway at %s: %w%s", addr, err, remedyOf(err))
	}
	defer reply.Body.Close()
	answer, err := io.ReadAll(reply.Body)
	if err != nil {
		return 0, "", fmt.Errorf("reading the answer of keyway at %s: %w", addr, err)
	}
	isBad := reply.StatusCode == http.StatusBadRequest
	if isBad && strings.Contains(string(answer), "HTTP request to an HTTPS server") {
		return 0, "", fmt.Errorf("keyway at %s speaks TLS; write --admin https://%[1]s", addr)
	}
	return reply.StatusCode, strings.TrimSuffix(string(answer), "\n"), nil
}

// remedyOf returns what to do about an error of TLS, behind the error.
func remedyOf(err error) string {
	switch text := err.Error(); {
	case strings.Contains(text, "gave HTTP response to HTTPS client"),
		strings.Contains(text, "look like a TLS handshake"):
		return "; it does not speak TLS: write --admin http://HOST:PORT"
	case strings.Contains(text, "certificate required"):
		return "; name a certificate that its admin.tls.client_ca has signed with --cert and --key"
	case strings.Contains(text, "failed to verify certificate") || strings.Contains(text, "x509:"):
		return "; name the authority that signs keyway's certificate with --cacert"
	}
	return ""
}

// orStart says behind an error of call that keyway may not run, unless the error is of what was asked with, such as
// the file of the token, or says already what to do.
func orStart(err error, start string) error {
	var failed *url.Error
	if !errors.As(err, &failed) || remedyOf(err) != "" {
		return err
	}
	return fmt.Errorf("%w; %s, or name its admin address with --admin", err, start)
}

// askTimeout is the time that a keyway gets to answer a question of plan.
const askTimeout = 10 * time.Second

// adminAddresses returns the admin addresses of the keyways to ask: those that are named, or
// the file's.
func adminAddresses(named []string, file string, c *config.Config) ([]string, error) {
	var addrs []string
	for _, addr := range named {
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	if len(addrs) > 0 {
		return addrs, nil
	}
	if c.Admin.Listen == "" {
		return nil, fmt.Errorf("%s has no admin address; name those of the running keyways with --admin", file)
	}
	return []string{reachable(c.Admin.Listen)}, nil
}

// askKeyways asks running keyways where they look for keys. It returns the configuration of
// the first one that answers, without users and passwords. If none answers, it returns an
// error.
func askKeyways(
	ctx context.Context, a *access, addrs []string, pool string,
) (older *config.Config, asked *plan.Asked, err error) {
	asked = &plan.Asked{}
	var failed []error
	for _, addr := range addrs {
		p, c, err := askPlacement(ctx, a, addr, pool)
		if err != nil {
			failed = append(failed, err)
			asked.Silent = append(asked.Silent, plan.Silent{Admin: addr, Reason: err.Error()})
			continue
		}
		if older == nil {
			older = c
		}
		asked.Keyways = append(asked.Keyways,
			plan.Keyway{Instance: p.Instance, Admin: addr, Version: p.Version, Placement: p.Hash})
	}
	if older == nil {
		return nil, nil, fmt.Errorf("%w; start keyway, or name the admin addresses of the running ones with --admin",
			errors.Join(failed...))
	}
	return older, asked, nil
}

// askPlacement asks one keyway.
func askPlacement(ctx context.Context, a *access, addr, pool string) (p admin.Placement, c *config.Config, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	status, text, err := a.call(ctx, http.MethodGet, addr, pageOf("/placement", pool, nil), nil)
	if err != nil {
		return p, nil, err
	}
	if status == http.StatusBadRequest {
		return p, nil, fmt.Errorf("keyway at %s: %s", addr, text)
	}
	if status != http.StatusOK {
		return p, nil, fmt.Errorf("%s is no admin address of a keyway that tells its placement: it answers %d %s",
			addr, status, http.StatusText(status))
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return p, nil, fmt.Errorf("%s is no admin address of a keyway: %w", addr, err)
	}
	c, err = config.ParsePlacement("the placement of keyway at "+addr, p.Config)
	return p, c, err
}

// askRunning gets a page of a running keyway, and passes the answer to read.
func askRunning(ctx context.Context, a *access, addr, page string, read func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	status, text, err := a.call(ctx, http.MethodGet, addr, page, nil)
	switch {
	case err != nil:
		return orStart(err, "start keyway")
	case status == http.StatusBadRequest || status == http.StatusServiceUnavailable:
		return fmt.Errorf("keyway at %s: %s", addr, text)
	case status != http.StatusOK:
		page, _, _ = strings.Cut(page, "?")
		return fmt.Errorf("%s is no admin address of a keyway that has %s: it answers %d %s", addr, page, status,
			http.StatusText(status))
	}
	if err := read(strings.NewReader(text)); err != nil {
		return fmt.Errorf("the answer of keyway at %s: %w", addr, err)
	}
	return nil
}
