// Package audit owns the record of what operators did: who, from where, what, and with which result.
package audit
