// Package charts tests the Helm chart and the manifests for Kubernetes that packaging has.
package charts
