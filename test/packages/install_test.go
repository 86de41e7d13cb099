package packages

import (
	"runtime"
	"strings"
	"testing"
)

// The copy of this machine has a network of its own, so the ports of the packaged file are free.
const (
	// a cluster of one node where the packaged file has its seeds
	startNode = `redis-server --port 7001 --bind 127.0.0.1 --cluster-enabled yes --daemonize yes \
	--dir /tmp --logfile /tmp/node.log
until redis-cli -p 7001 CLUSTER ADDSLOTSRANGE 0 16383 2>&1 | grep -x OK; do sleep 0.05; done
until redis-cli -p 7001 CLUSTER INFO | grep -q cluster_state:ok; do sleep 0.05; done`

	asKeyway = "setpriv --reuid keyway --regid keyway --clear-groups "

	startKeyway = asKeyway + `/usr/bin/keyway serve -c /etc/keyway/keyway.yml >/tmp/keyway.log 2>&1 &
echo $! >/tmp/keyway.pid
for i in $(seq 300); do
	keyway health -c /etc/keyway/keyway.yml --ready >/tmp/health 2>&1 && break
	sleep 0.1
done
cat /tmp/health /tmp/keyway.log`

	stopKeyway = `kill $(cat /tmp/keyway.pid)
while kill -0 $(cat /tmp/keyway.pid) 2>/dev/null; do sleep 0.05; done
cat /tmp/keyway.log`

	// a stand-in for systemd that lists what it is asked for
	startSystemd = `mkdir -p /run/systemd/system
rm -f /usr/bin/systemctl
printf '#!/bin/sh\necho "systemctl $*"\n' >/usr/bin/systemctl
chmod +x /usr/bin/systemctl`
)

// TestDebianPackage: keyway runs from its package for Debian, with the file that is in it, as its
// own user and without systemd. An upgrade keeps the file that an operator has written, and leaves
// the running keyway alone. A purge leaves the user only.
func TestDebianPackage(t *testing.T) {
	m := startMachine(t, released(t))
	deb := "/dist/keyway_1.2.3_" + runtime.GOARCH + ".deb"
	m.run(listFiles + " >/dist/before")
	m.run("dpkg -i "+deb, "keyway is not started yet")
	m.run("stat -c '%A %U:%G %n' /usr/bin/keyway /etc/keyway /etc/keyway/keyway.yml /etc/default/keyway",
		"-rwxr-xr-x root:root /usr/bin/keyway\n", "drwxr-x--- root:keyway /etc/keyway\n",
		"-rw-r----- root:keyway /etc/keyway/keyway.yml\n", "-rw-r----- root:root /etc/default/keyway")
	m.run("getent passwd keyway", ":/nonexistent:/usr/sbin/nologin")
	m.run("keyway version", "keyway v1.2.3")
	m.run("keyway check --offline -c /etc/keyway/keyway.yml", "/etc/keyway/keyway.yml is valid")
	m.run("gzip -dc /usr/share/man/man1/keyway-serve.1.gz", ".SH NAME\nkeyway-serve")
	m.run("bash -n /usr/share/bash-completion/completions/keyway")
	m.run("cd /usr/share/doc/keyway; gzip -t CHANGELOG.md.gz; cat examples/ring.yml", "layout: ring")
	m.run("cat /usr/share/keyway/monitoring/keyway.rules.yml", "KeywayDown")
	m.run("cat /usr/share/keyway/monitoring/keyway.json", "keyway_commands_total")
	m.run("! command -v systemd-analyze || systemd-analyze verify --man=no /usr/lib/systemd/system/keyway.service " +
		"/usr/lib/systemd/system/keyway.socket")
	m.run("! find /etc/systemd -name 'keyway*' | grep .") // no unit is enabled

	m.run(startNode)
	m.run(startKeyway, "ok\n", "listening")
	if _, status := m.try(asKeyway + "sh -c 'echo >>/etc/keyway/keyway.yml'"); status == "0" {
		t.Error("the user keyway can write its file")
	}
	m.run("redis-cli -p 6380 SET by keyway", "OK")

	const changed = "echo '# ours' >>/etc/keyway/keyway.yml"
	m.run(changed)
	m.run(newerDeb(deb))
	m.run("dpkg --force-confdef --force-confold -i /tmp/newer.deb", "Keeping old config file")
	m.run("tail -n1 /etc/keyway/keyway.yml; stat -c %U:%G /etc/keyway/keyway.yml", "# ours\nroot:keyway")
	m.run("redis-cli -p 6380 GET by", "keyway")
	m.run(stopKeyway, "stopped")

	m.run("dpkg -r keyway")
	if out, _ := m.try("ls /usr/bin/keyway /etc/keyway/keyway.yml 2>/dev/null"); out != "/etc/keyway/keyway.yml\n" {
		t.Errorf("after the removal there is %q", out)
	}
	m.run("dpkg -P keyway")
	if more := m.run(listFiles + " | comm -3 /dist/before -"); more != "" {
		t.Errorf("the purge leaves other files:\n%s", more)
	}
	m.run("getent passwd keyway")
}

// TestDebianPackageUnderSystemd: with systemd, an upgrade restarts a keyway that runs, and a
// removal stops it first.
func TestDebianPackageUnderSystemd(t *testing.T) {
	m := startMachine(t, released(t))
	deb := "/dist/keyway_1.2.3_" + runtime.GOARCH + ".deb"
	m.run(startSystemd)
	for line := range strings.Lines(m.run("dpkg -i "+deb, "systemctl daemon-reload\n")) {
		if strings.HasPrefix(line, "systemctl start") || strings.HasPrefix(line, "systemctl restart") ||
			strings.HasPrefix(line, "systemctl enable") {
			t.Errorf("an installation starts or enables keyway: %s", line)
		}
	}
	m.run(newerDeb(deb))
	m.run("dpkg -i /tmp/newer.deb", "systemctl daemon-reload\nsystemctl try-restart keyway.service\n")
	m.run("dpkg -r keyway",
		"systemctl stop keyway.socket keyway.service\n"+
			"systemctl --quiet disable keyway.socket keyway.service\n", "systemctl daemon-reload")
}

// TestRPMPackage: the package for RPM makes the user before its files, keeps the operator's file
// on an upgrade, and removes all but the user.
func TestRPMPackage(t *testing.T) {
	m := startMachine(t, released(t))
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	rpm := "/dist/keyway-1.2.3-1." + machine + ".rpm"
	m.run("rpm -qp --qf '%{NAME} %{VERSION}-%{RELEASE} %{ARCH}\n' "+rpm, "keyway 1.2.3-1 "+machine)
	// This machine has another database of packages, so the dependencies are not in it.
	m.run("rpm -i --nodeps "+rpm, "keyway is not started yet")
	m.run("rpm -V --nodeps keyway")
	m.run("stat -c '%A %U:%G %n' /etc/keyway /etc/keyway/keyway.yml",
		"drwxr-x--- root:keyway /etc/keyway\n", "-rw-r----- root:keyway /etc/keyway/keyway.yml")
	m.run("keyway check --offline -c /etc/keyway/keyway.yml", "is valid")
	m.run("echo '# ours' >>/etc/keyway/keyway.yml")
	m.run(startSystemd)
	m.run("rpm -U --nodeps --replacepkgs "+rpm, "systemctl try-restart keyway.service")
	m.run("tail -n1 /etc/keyway/keyway.yml", "# ours")
	m.run("rpm -e keyway", "systemctl stop keyway.socket keyway.service\n")
	m.run("! ls /usr/bin/keyway /usr/share/doc/keyway /usr/share/keyway 2>/dev/null; getent passwd keyway")
}

// newerDeb makes /tmp/newer.deb, a later version whose configuration file differs.
func newerDeb(deb string) string {
	return `dpkg-deb -R ` + deb + ` /tmp/newer
sed -i 's/^Version: .*/Version: 1.2.4/' /tmp/newer/DEBIAN/control
echo '# new' >>/tmp/newer/etc/keyway/keyway.yml
dpkg-deb --root-owner-group -Znone -b /tmp/newer /tmp/newer.deb`
}

// listFiles lists the files of the copy that dpkg or keyway could leave.
const listFiles = `find /etc /usr/bin /usr/sbin /usr/lib/systemd /usr/share /usr/local /var/lib -xdev \
	! -path '/var/lib/dpkg/*' ! -path '/var/cache/*' | sort`
