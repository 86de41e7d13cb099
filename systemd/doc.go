// Package systemd owns what keyway tells systemd about itself: that it is ready, reloads or stops,
// a line for `systemctl status`, and that its threads are alive. It does so only if systemd asks
// for it in the environment, as for services of Type=notify. It also takes the sockets that
// systemd has opened for keyway.
package systemd
