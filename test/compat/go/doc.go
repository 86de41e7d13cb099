// Command compat drives go-redis, redis-cli, rueidis, redigo and asynq and prints
// one line for each check.
package main
