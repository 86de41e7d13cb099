package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// withGuard runs go-redis over TLS if there is an authority, and as the user if there is one.
func withGuard(ctx context.Context, ca string) {
	o := goredis.Options{Addr: addr, ClientName: "app", Username: user, Password: os.Getenv("COMPAT_PASSWORD")}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		o.TLSConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		o.TLSConfig.RootCAs.AppendCertsFromPEM(pem)
	}
	for _, protocol := range []int{2, 3} {
		o := o
		o.Protocol = protocol
		library := fmt.Sprintf("go-redis/RESP%d", protocol)
		check(library, "github.com/redis/go-redis/v9", "guard", func() error { return guard(ctx, o) })
		withGoRedis(ctx, library, goredis.NewClient(&o))
	}
}

// guard tries what must not work: a certificate of an unknown authority, and what the user may
// not do.
func guard(ctx context.Context, o goredis.Options) error {
	if o.TLSConfig != nil {
		o.TLSConfig = &tls.Config{} // trusts the system's authorities only
		c := goredis.NewClient(&o)
		defer c.Close()
		var unknown x509.UnknownAuthorityError
		if err := c.Ping(ctx).Err(); !errors.As(err, &unknown) {
			return fmt.Errorf("the certificate is not verified: %v", err)
		}
	}
	if user == "" {
		return nil
	}
	c := goredis.NewClient(&o)
	defer c.Close()
	if name, err := c.Do(ctx, "ACL", "WHOAMI").Text(); name != user {
		return fmt.Errorf("the user is %q, %v", name, err)
	}
	for _, err := range []error{c.Get(ctx, "other:key").Err(), c.Keys(ctx, "*").Err()} {
		if err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			return fmt.Errorf("it is allowed: %v", err)
		}
	}
	return nil
}
