"""The pure half of the doctor: judges what its checks have learnt."""
