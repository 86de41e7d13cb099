// Package dashboards has the Grafana dashboard as a table, and the tests of the dashboard and of the alert rules in
// packaging.
package dashboards
