// Package tracking owns client-side caching: CLIENT TRACKING, the connections of clients that
// track, and the invalidations that they get.
package tracking
