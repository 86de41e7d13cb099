// Package observe is the part of a worker that watches what clients do: their locks (KEYWAY LOCKS, metrics and
// alarms), the keys that they use most, and large values. What is known of these is in the packages locks, hotkeys
// and bigkeys.
package observe
