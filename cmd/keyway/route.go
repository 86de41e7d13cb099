package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/terminal"
	"github.com/keyway-proxy/keyway/wiring"
)

func routeCommand() *cobra.Command {
	var file, pool, addr string
	var asJSON bool
	var a access
	cmd := &cobra.Command{
		Use:   "route KEY...",
		Short: "Print the node of each key, and why it is there",
		Long: "route prints the node of each key, and why it is there, by the layout in the file. With --admin it\n" +
			"asks a running keyway instead: that also knows where keys are that move to another layout now.",
		Args: func(cmd *cobra.Command, keys []string) error {
			if len(keys) == 0 {
				return errors.New("keyway route needs a key; write keyway route --config FILE KEY [KEY...]")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, keys []string) (err error) {
			var routes []router.Explanation
			if addr != "" {
				routes, err = askRoutes(cmd.Context(), &a, addr, pool, keys)
			} else {
				routes, err = routesOf(cmd.Context(), file, pool, keys)
			}
			switch {
			case err != nil:
				return err
			case asJSON:
				return terminal.JSON(cmd.OutOrStdout(), routes)
			}
			return terminal.Routes(cmd.OutOrStdout(), routes)
		},
	}
	configFlag(cmd, &file)
	poolFlag(cmd, &pool)
	cmd.Flags().StringVar(&addr, "admin", "", "ask the running keyway with this admin `address`, and read no file")
	a.tlsFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object on each line")
	return cmd
}

// routesOf returns where keys live by a file.
func routesOf(ctx context.Context, file, pool string, keys []string) (routes []router.Explanation, err error) {
	cfg, err := load(file, pool)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; or ask a running keyway at its admin address with --admin", err)
	}
	if err == nil && wiring.Asks(cfg) {
		err = logIn(ctx, cfg)
	}
	if err != nil {
		return nil, err
	}
	t, err := wiring.FetchTable(ctx, cfg)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		routes = append(routes, t.ExplainKey([]byte(k)))
	}
	return routes, nil
}

// askedKeys is how many bytes of keys one request to a keyway names at most, if not one key is larger.
// net/http accepts requests of a megabyte, and a byte of a key can take three.
const askedKeys = 100 << 10

// askRoutes asks a running keyway where keys live.
func askRoutes(
	ctx context.Context, a *access, addr, pool string, keys []string,
) (routes []router.Explanation, err error) {
	for len(keys) > 0 {
		n, size := 1, len(keys[0])
		for n < len(keys) && size+len(keys[n]) <= askedKeys {
			size += len(keys[n]) + len("&key=")
			n++
		}
		page := pageOf("/route", pool, url.Values{"key": keys[:n]})
		err := askRunning(ctx, a, addr, page, func(answer io.Reader) error {
			for lines := json.NewDecoder(answer); ; {
				var e router.Explanation
				if err := lines.Decode(&e); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
				routes = append(routes, e)
			}
		})
		if err != nil {
			return nil, err
		}
		keys = keys[n:]
	}
	return routes, nil
}
