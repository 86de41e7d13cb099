package info

import (
	"slices"
	"testing"
)

func TestDatabases(t *testing.T) {
	got := Databases("redis_version:7.2\r\n# Keyspace\r\ndb0:keys=3,expires=0,avg_ttl=0\r\n" +
		"db11:keys=20,expires=1,avg_ttl=5,subexpiry=0\r\n" +
		"db2:keys=0,expires=0\r\ndbx:keys=1\r\n")
	if want := []Database{{0, 3}, {11, 20}}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
