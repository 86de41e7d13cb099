// Package sim runs proxy's worker, exactly as shipped, on a virtual clock and
// network with scripted nodes, from one seed: a run can be replayed to the byte.
package sim
