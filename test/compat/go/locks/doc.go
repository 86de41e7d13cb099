// Command locks holds locks with redsync, bsm/redislock and rueidislock, and by the commands
// that applications send themselves, on several targets at once. Each argument is
// LAYOUT,ADDR. It prints one line for each check.
package main
