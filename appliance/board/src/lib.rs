//! The appliance's lamps, OLED and buttons: sees a status snapshot and nothing else.
