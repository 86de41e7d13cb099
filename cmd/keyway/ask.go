package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

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

// adminURL returns the URL of a page of the keyway with that admin address.
func adminURL(addr, page string) string { return fmt.Sprintf("http://%s%s", addr, page) }

// callAdmin sends a request to the admin address of a keyway. Its error is a failure to get
// any answer.
func callAdmin(ctx context.Context, method, addr, page string, body []byte) (status int, text string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, adminURL(addr, page), bytes.NewReader(body))
	if err != nil {
		return 0, "", fmt.Errorf("--admin %s: write HOST:PORT", addr)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // without the environment's HTTP proxy
	reply, err := client.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("asking keyway at %s: %w", addr, err)
	}
	defer reply.Body.Close()
	answer, err := io.ReadAll(reply.Body)
	if err != nil {
		return 0, "", fmt.Errorf("reading the answer of keyway at %s: %w", addr, err)
	}
	return reply.StatusCode, strings.TrimSuffix(string(answer), "\n"), nil
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
	if c.Admin == "" {
		return nil, fmt.Errorf("%s has no admin address; name those of the running keyways with --admin", file)
	}
	return []string{reachable(c.Admin)}, nil
}

// askKeyways asks running keyways where they look for keys. It returns the configuration of
// the first one that answers, without users and passwords. If none answers, it returns an
// error.
func askKeyways(ctx context.Context, addrs []string, pool string) (older *config.Config, asked *plan.Asked, err error) {
	asked = &plan.Asked{}
	var failed []error
	for _, addr := range addrs {
		p, c, err := askPlacement(ctx, addr, pool)
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
func askPlacement(ctx context.Context, addr, pool string) (p admin.Placement, c *config.Config, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	status, text, err := callAdmin(ctx, http.MethodGet, addr, pageOf("/placement", pool, nil), nil)
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
func askRunning(ctx context.Context, addr, page string, read func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	status, text, err := callAdmin(ctx, http.MethodGet, addr, page, nil)
	switch {
	case err != nil:
		return fmt.Errorf("%w; start keyway, or name its admin address with --admin", err)
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
