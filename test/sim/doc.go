// Package sim runs the unmodified proxy.Worker on a virtual clock and network with simulated
// nodes. One seed determines a run completely, so every run can be replayed.
package sim
