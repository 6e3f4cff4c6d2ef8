//! The LAN appliance: gateway daemon (cerebrumd) and command-line client (cerebrum).
