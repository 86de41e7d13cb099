// Command compat drives rueidis, redigo and asynq and prints one line for each
// check.
package main
