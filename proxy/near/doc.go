// Package near owns the values of hot keys from which a worker answers GETs itself: near_cache.
package near
