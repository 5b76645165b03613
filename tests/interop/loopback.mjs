// Preloaded before a Node server: it listens on loopback only, at PORT=0 on a port of the system's choice,
// and its first line says which.
import net from "node:net";

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  this.once("listening", () => console.log(`listening on http://127.0.0.1:${this.address().port}`));
  return listen.call(this, { host: "127.0.0.1", port: Number(port) }, ...rest);
};
